"""The network that a hosted program believes in: names, addresses, who listens.

Every host has an address that is made up here, and the machine is called the
same everywhere, so that what a program derives from them does not depend on
where the run takes place. No name server is asked.
"""

from __future__ import annotations

import socket as socket_module
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from playground.host.replacement import Replacements

if TYPE_CHECKING:
    from playground.host.allowance import Allowance
    from playground.host.sockets import VirtualSocket

HOST_NAME = "hosted"
FIRST_FD = 1000
"""Far above real descriptors."""
LOOPBACK = {"localhost", "127.0.0.1", "::1", "", "0.0.0.0", "::"}


class Network:
    """What the virtual sockets of a process have in common."""

    def __init__(self) -> None:
        self.allowance: Allowance
        self.sockets: WeakValueDictionary[int, VirtualSocket] = WeakValueDictionary()
        """By descriptor."""
        self.listeners: WeakValueDictionary[int, VirtualSocket] = WeakValueDictionary()
        """By port."""
        self.default_timeout: float | None = None
        self.descriptors = count(FIRST_FD)
        self.ports = count(40_000)
        self._addresses: dict[str, str] = {}
        self._hosts: dict[str, str] = {}

    def address(self, host: str) -> str:
        """Returns the address of a host, making one up where it has none."""
        if host in LOOPBACK:
            return "127.0.0.1"
        if host.replace(".", "").isdigit() or ":" in host:
            return host
        if host not in self._addresses:
            # 198.18.0.0/15 is set aside for tests (RFC 2544): nobody's address.
            high, low = divmod(len(self._addresses) + 1, 256)
            self._addresses[host] = f"198.18.{high}.{low}"
            self._hosts[self._addresses[host]] = host
        return self._addresses[host]

    def host(self, address: str) -> str:
        """Returns the host that was given an address; any other as it is."""
        return self._hosts.get(address, address)

    # ------------------------------------------- the functions of ``socket``

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """``socket.getaddrinfo``."""
        if isinstance(host, bytes):
            host = host.decode()
        if isinstance(port, str):
            known = port.isdigit()
            port = int(port) if known else socket_module.getservbyname(port)
        return [
            (
                socket_module.AF_INET,
                socket_module.SocketKind(type or socket_module.SOCK_STREAM),
                proto or socket_module.IPPROTO_TCP,
                "",
                (self.address(host or "localhost"), port or 0),
            )
        ]

    def gethostbyname(self, host: str, /) -> str:
        """``socket.gethostbyname``."""
        return self.address(host)

    def gethostname(self) -> str:
        """``socket.gethostname``."""
        return HOST_NAME

    def getfqdn(self, name: str = "") -> str:
        """``socket.getfqdn``."""
        return self.host(name) if name else HOST_NAME

    def setdefaulttimeout(self, timeout: float | None, /) -> None:
        """``socket.setdefaulttimeout``."""
        self.default_timeout = timeout

    def getdefaulttimeout(self) -> float | None:
        """``socket.getdefaulttimeout``."""
        return self.default_timeout

    def install(self, replacements: Replacements, allowance: Allowance) -> None:
        """Replaces what asks a name server, or the machine for its name."""
        self.allowance = allowance
        for function in (
            self.getaddrinfo,
            self.gethostbyname,
            self.gethostname,
            self.getfqdn,
            self.setdefaulttimeout,
            self.getdefaulttimeout,
        ):
            replacements.put(socket_module, function.__name__, function)


NETWORK = Network()
"""There is one per process."""
