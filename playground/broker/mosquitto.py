"""A mosquitto of our own: found on the PATH, configured for tests and labs.

Stock mosquitto throws messages away when a subscriber is slower than a
publisher; ours keeps them. Nothing is written outside a temporary folder.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from playground.broker.access import Access
from playground.errors import ConnectionFailed, PlaygroundError

START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
_ATTEMPTS = 5
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Debian installs it where an ordinary user's PATH does not look."""


def find_mosquitto() -> str | None:
    """Returns the path of the mosquitto program, None if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    return shutil.which("mosquitto", path=path)


class MosquittoProcess:
    """A mosquitto in a child process.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        websocket_port: The same for WebSockets; None is no such listener.
        access: Who may come in.
        acl_file: mosquitto's ACL file.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        websocket_port: int | None,
        access: Access,
        acl_file: Path | None,
    ) -> None:
        self._host = host
        self._wanted = (port, websocket_port)
        self._access = access
        self._acl_file = acl_file
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.port = 0
        self.websocket_port: int | None = None

    def start(self) -> None:
        """Starts the process and waits until it accepts connections.

        Raises:
            PlaygroundError: There is no mosquitto.
            ConnectionFailed: It does not start.
        """
        program = find_mosquitto()
        if program is None:
            raise PlaygroundError(
                "There is no mosquitto on the PATH.",
                "install it (Debian: apt install mosquitto) "
                "or use the embedded broker: --backend amqtt",
            )
        port, websocket_port = self._wanted
        is_free_choice = port == 0 or websocket_port == 0
        for attempt in range(_ATTEMPTS):
            self.port = _free_port(self._host, port)
            if websocket_port is not None:
                self.websocket_port = _free_port(self._host, websocket_port)
            complaint = self._try(program)
            if complaint is None:
                return
            self.stop()
            # Between our asking for a free port and mosquitto's taking it,
            # somebody else may have come.
            taken = "Address already in use" in complaint
            if not (taken and is_free_choice and attempt < _ATTEMPTS - 1):
                break
        raise ConnectionFailed(
            f"mosquitto does not start on {self._host}:{self.port}: {complaint}",
            "take another port (0 finds a free one) or another host",
        )

    def _try(self, program: str) -> str | None:
        """Starts once; returns what went wrong."""
        self._folder = tempfile.TemporaryDirectory(prefix="playground-mosquitto-")
        folder = Path(self._folder.name)
        configuration = folder / "mosquitto.conf"
        configuration.write_text(self._configuration(folder), "utf-8")
        log = (folder / "log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [program, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us; we then stop it in good order.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._answers():
                return None
            time.sleep(0.01)
        said = (folder / "log").read_text("utf-8", errors="replace").strip()
        lines = [line.partition(": ")[2] or line for line in said.splitlines()]
        errors = [line for line in lines if "rror" in line]
        return "; ".join(errors or lines[-2:]) or "it says nothing"

    def _configuration(self, folder: Path) -> str:
        lines = [
            "persistence false",
            "allow_zero_length_clientid true",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "sys_interval 1",
            "log_dest stdout",
            "log_type error",
            "log_type warning",
            f"allow_anonymous {'true' if self._access.allow_anonymous else 'false'}",
        ]
        if self._access.users:
            passwords = folder / "passwords"
            passwords.touch(mode=0o600)
            passwords.write_text(
                "".join(f"{u}:{kept}\n" for u, kept in self._access.users.items()),
                "utf-8",
            )
            lines.append(f"password_file {passwords}")
        if self._acl_file is not None:
            lines.append(f"acl_file {self._acl_file.resolve()}")
        if os.geteuid() == 0:
            # Started as root it would become a user who cannot read our folder.
            lines.append("user root")
        lines.append(f"listener {self.port} {self._host}")
        if self.websocket_port is not None:
            address = _address(self._host)
            lines += [
                f"listener {self.websocket_port} {address}",
                "protocol websockets",
                # Else an address of IPv4 is not heeded, and all the network gets in.
                f"socket_domain {'ipv6' if ':' in address else 'ipv4'}",
            ]
        return "\n".join(lines) + "\n"

    def _answers(self) -> bool:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        ports = [self.port, *([self.websocket_port] if self.websocket_port else [])]
        for port in ports:
            try:
                with socket.create_connection((host, port), timeout=1.0):
                    pass
            except OSError:
                return False
        # Another server may be the one that answers.
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stops the process: asks, and after a while does not ask."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_WITHIN_S)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.cleanup()
            self._folder = None


def _address(host: str) -> str:
    """Returns the address of a host; its WebSockets do not know names."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
        # IPv4 first.
        return str(min(found, key=lambda each: each[0])[4][0])


def _free_port(host: str, port: int = 0) -> int:
    """Returns a port that nobody listens on: the one asked for, or any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As mosquitto does: a port whose last connections are fading is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise ConnectionFailed(
                f"mosquitto cannot listen on {host}:{port}: {error.strerror or error}.",
                "take another port (0 finds a free one), "
                "or as host an address of this machine",
            ) from error
        found: int = probe.getsockname()[1]
        return found
