"""Keeps a test off the network: only this machine, and hosts it names, answer.

It listens to Python's own audit events of sockets (PEP 578), so it does not matter
which library connects, and nothing is replaced that another tool may have
replaced too. Python processes that a test starts learn of it from their environment
(``offline/sitecustomize.py``). Not covered are programs that are not in Python,
Python with ``-I``, ``-E`` or ``-S`` or an environment of its own, and code in C that
connects without Python's sockets.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from playground.errors import PlaygroundError

HERE = ("127.0.0.0/8", "::1/128", "localhost")
OFFLINE = Path(__file__).parent / "offline"
"""Folder for the search path of child processes; Python finds it at their start."""
HOSTS = "PLAYGROUND_ONLY_LOOPBACK"
"""Environment variable that tells child processes what they may reach."""
_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_RESOLVING = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})


class NetworkBlocked(PlaygroundError):  # noqa: N818 - reads as a sentence
    """A test wanted to reach something that is not on this machine."""


class _Guard:
    """Which hosts may be reached, while it is in force.

    Args:
        hosts: Names, addresses or networks (``10.0.0.0/8``).
    """

    def __init__(self, hosts: Iterable[str]) -> None:
        self.names: set[str] = set()
        self.networks: list[Any] = []
        self._resolved = False
        for host in hosts:
            try:
                self.networks.append(ipaddress.ip_network(host, strict=False))
            except ValueError:
                self.names.add(host.lower())

    def allows(self, host: str) -> bool:
        """Says whether a host may be reached."""
        if host.lower() in self.names:
            return True
        try:
            # A link-local address carries the name of its interface.
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if self._within(address):
            return True
        if not self._resolved:
            self._resolved = True
            self._resolve()
            return self._within(address)
        return False

    def _within(self, address: Any) -> bool:
        return any(
            address in network
            for network in self.networks
            if network.version == address.version
        )

    def _resolve(self) -> None:
        """Learns the addresses of the names that are allowed."""
        for name in self.names - {"localhost"}:
            with contextlib.suppress(OSError):
                self.networks.extend(
                    ipaddress.ip_network(info[4][0])
                    for info in socket.getaddrinfo(name, None)
                )


_in_force: _Guard | None = None
_installed = threading.Lock()
_is_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    guard = _in_force
    if guard is None or not event.startswith("socket."):
        return
    if event in _CONNECTING:
        address = arguments[1]
        # Unix sockets have a path, netlink a number.
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            return
        host = address[0]
    elif event in _RESOLVING:
        host = arguments[0]
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
    else:
        return
    if host and not guard.allows(host):
        raise NetworkBlocked(
            f"The test wants to reach {host!r}; only this machine may be reached.",
            f"take the broker of a fixture, or allow the host: "
            f"@pytest.mark.allow_hosts({host!r})",
        )


def keep_off(allow: Iterable[str] = ()) -> None:
    """Refuses, until this process ends, every connection that leaves this machine.

    Args:
        allow: Further hosts: names, addresses, or networks (``10.0.0.0/8``).
    """
    global _in_force
    _install()
    _in_force = _Guard([*HERE, *allow])


@contextlib.contextmanager
def only_loopback(allow: Iterable[str] = ()) -> Iterator[None]:
    """Refuses every connection that leaves this machine, on any thread.

    Python processes that are started meanwhile are refused it to their end.

    Args:
        allow: Further hosts: names, addresses, or networks (``10.0.0.0/8``).

    Raises:
        NetworkBlocked: Raised where the connection is attempted.
    """
    global _in_force
    allow = list(allow)
    _install()
    earlier, _in_force = _in_force, _Guard([*HERE, *allow])
    try:
        with _told_to_children(allow):
            yield
    finally:
        _in_force = earlier


def _install() -> None:
    global _is_installed
    with _installed:
        if not _is_installed:
            # It cannot be taken away again; it does nothing while nothing is in
            # force.
            sys.addaudithook(_audit)
            _is_installed = True


@contextlib.contextmanager
def _told_to_children(allow: Iterable[str]) -> Iterator[None]:
    own = str(OFFLINE)
    before = {name: os.environ.get(name) for name in (HOSTS, "PYTHONPATH")}
    path = [each for each in (before["PYTHONPATH"] or "").split(os.pathsep) if each]
    os.environ[HOSTS] = " ".join(allow)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [own, *(each for each in path if each != own)]
    )
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
