"""Sockets without a network: their other end is the run's bus, or each other.

``socket.socket``, ``select`` and ``selectors`` for a hosted program. A TCP
connection to a host and port that the run maps to its bus goes there, byte by
byte. What a program binds and listens on can be reached only from within the
program (paho wakes itself up that way); everything else is refused.
"""

# The signatures are those of the functions that are replaced.
# The two ends of a pair know each other from within.
# ruff: noqa: FBT001, SLF001

from __future__ import annotations

import errno
import json
import os
import socket as socket_module
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from playground.host.baton import BATON, TIMED_OUT, Ticket
from playground.host.frames import (
    ACCEPTED,
    ARRIVED,
    CLOSED,
    CONNECT,
    HUNG_UP,
    REFUSED,
    SENT,
)
from playground.host.network import LOOPBACK, NETWORK
from playground.host.replacement import Replacements

_RealSocket = socket_module.socket


class VirtualSocket:
    """``socket.socket`` for stream connections in virtual time."""

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is not None:
            NETWORK.allowance.refuse("use an operating system's socket by its number")
        self.family = (
            socket_module.AF_INET
            if family == -1
            else socket_module.AddressFamily(family)
        )
        self.type = (
            socket_module.SOCK_STREAM if type == -1 else socket_module.SocketKind(type)
        )
        self.proto = 0 if proto == -1 else proto
        if self.type != socket_module.SOCK_STREAM:
            NETWORK.allowance.refuse(f"open a socket of kind {self.type.name}")
        self._fd = next(NETWORK.descriptors)
        self._timeout = NETWORK.default_timeout
        self.incoming = bytearray()
        self._ended = False
        """No more bytes will come."""
        self.waiting: deque[Ticket] = deque()
        """Who is to be woken when something happens here."""
        self._peer: VirtualSocket | None = None
        self._bus = False
        self._connecting = False
        self._connected = False
        self._error = 0
        self._backlog: deque[VirtualSocket] | None = None
        self._name: Any = ("0.0.0.0", 0)
        self._peer_name: Any = None
        self._io_refs = 0
        self._closing = False
        self._sent_end = False
        NETWORK.sockets[self._fd] = self

    def __enter__(self) -> VirtualSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._really_close()

    def __repr__(self) -> str:
        return (
            f"<socket.socket fd={self._fd}, family={int(self.family)}, "
            f"type={int(self.type)}, proto={self.proto}, laddr={self._name}, "
            f"raddr={self._peer_name}>"
        )

    def __getstate__(self) -> None:
        raise TypeError("cannot pickle 'socket' object")

    # ------------------------------------------------------------ waiting

    @property
    def readable(self) -> bool:
        """Whether `recv` or `accept` would not wait."""
        return bool(self.incoming or self._ended or self._backlog or self._error)

    @property
    def writable(self) -> bool:
        """Whether `send` would not wait."""
        return not self._connecting

    def _stir(self) -> None:
        """Wakes everybody who waits for something to happen here."""
        waiting = self.waiting
        while waiting:
            BATON.wake(waiting.popleft())

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Waits as the socket's time-out says.

        Raises:
            BlockingIOError: The socket does not block.
            TimeoutError: The time is up.
        """
        if ready():
            return
        if self._timeout == 0:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        deadline = None if self._timeout is None else BATON.after(self._timeout)
        while not ready():
            if BATON.park(deadline, self.waiting) == TIMED_OUT and not ready():
                raise TimeoutError("timed out")

    # --------------------------------------------------------- connecting

    def connect(self, address: Any, /) -> None:
        """Connects to the bus, or to a listener of this very program."""
        problem = self.connect_ex(address)
        if problem:
            raise OSError(problem, os.strerror(problem))

    def connect_ex(self, address: Any, /) -> int:
        """Connects, or begins to, and returns an error number."""
        problem = self._begin(address)
        if problem == errno.EINPROGRESS and self._timeout != 0:
            self._wait(lambda: not self._connecting)
            problem, self._error = self._error, 0
        return problem

    def _begin(self, address: Any) -> int:
        self._must_be_open()
        if self._connected:
            return errno.EISCONN
        if self._connecting:
            return errno.EALREADY
        if not isinstance(address, tuple):
            NETWORK.allowance.refuse(f"connect to the socket {address!r}")
        host, port = NETWORK.host(str(address[0])), int(address[1])
        listener = NETWORK.listeners.get(port) if host in LOOPBACK else None
        if listener is not None and listener._backlog is not None:
            self._join(listener, port)
            return 0
        NETWORK.allowance.check_connection(host, port)
        self._peer_name = (address[0], port)
        self._name = ("127.0.0.1", next(NETWORK.ports))
        self._connecting = self._bus = True
        BATON.tell(CONNECT, self._fd, json.dumps([host, port]).encode())
        return errno.EINPROGRESS

    def _join(self, listener: VirtualSocket, port: int) -> None:
        other = VirtualSocket(self.family)
        self._pair(other)
        self._name = other._peer_name = ("127.0.0.1", next(NETWORK.ports))
        self._peer_name = other._name = ("127.0.0.1", port)
        assert listener._backlog is not None
        listener._backlog.append(other)
        listener._stir()

    def _pair(self, other: VirtualSocket) -> None:
        self._peer, other._peer = other, self
        self._connected = other._connected = True

    def bind(self, address: Any, /) -> None:
        """Takes an address; only this program can reach it."""
        self._must_be_open()
        if not isinstance(address, tuple):
            NETWORK.allowance.refuse(f"bind the socket {address!r}")
        port = int(address[1]) or next(NETWORK.ports)
        if port in NETWORK.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._name = (address[0], port)

    def listen(self, backlog: int = 128, /) -> None:
        """Waits for connections from within the program."""
        self._must_be_open()
        if not self._name[1]:
            self._name = (self._name[0], next(NETWORK.ports))
        self._backlog = deque()
        NETWORK.listeners[self._name[1]] = self

    def accept(self) -> tuple[VirtualSocket, Any]:
        """Returns the next connection and where it comes from."""
        self._must_be_open()
        if self._backlog is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._wait(lambda: bool(self._backlog))
        other = self._backlog.popleft()
        return other, other._peer_name

    # ---------------------------------------------------------- the bytes

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Sends all of ``data``: there is always room."""
        self._must_be_open()
        raw = bytes(data)
        if not self._connected:
            if self._connecting:
                self._wait(lambda: not self._connecting)
            if not self._connected:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self._sent_end:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if self._bus:
            if self._ended:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if raw:
                BATON.tell(SENT, self._fd, raw)
            return len(raw)
        peer = self._peer
        if peer is None or peer._fd < 0:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        peer.incoming += raw
        if peer.waiting:
            peer._stir()
        return len(raw)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Sends all of ``data``."""
        self.send(data)

    def sendmsg(self, buffers: Iterable[Any], *_: Any) -> int:
        """Sends several buffers as one."""
        return self.send(b"".join(bytes(each) for each in buffers))

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Returns up to ``size`` bytes; none at the end."""
        if self._fd < 0:
            self._must_be_open()
        incoming = self.incoming
        if not incoming and not self._ended:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            self._wait(lambda: self.readable)
        if self._error:
            problem, self._error = self._error, 0
            raise OSError(problem, os.strerror(problem))
        data = bytes(incoming[:size])
        if not flags & socket_module.MSG_PEEK:
            del incoming[:size]
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0, /) -> int:
        """Fills ``buffer`` with what is there."""
        data = self.recv(nbytes or len(memoryview(buffer).cast("B")), flags)
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def recvfrom(self, size: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Returns bytes and where they come from."""
        return self.recv(size, flags), self._peer_name

    # --------------------------------------------------------- the end

    def shutdown(self, how: int, /) -> None:
        """Ends one direction or both."""
        self._must_be_open()
        if not self._connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if how != socket_module.SHUT_RD:
            self._send_end()
        if how != socket_module.SHUT_WR:
            self._ended = True
            self._stir()

    def _send_end(self) -> None:
        if self._sent_end:
            return
        self._sent_end = True
        if self._bus:
            BATON.tell(CLOSED, self._fd)
        elif self._peer is not None:
            self._peer._ended = True
            self._peer._stir()

    def close(self) -> None:
        """Closes the socket; who waits for it is told."""
        self._closing = True
        if self._io_refs <= 0:
            self._really_close()

    def _decref_socketios(self) -> None:
        self._io_refs -= 1
        if self._closing:
            self.close()

    def _really_close(self) -> None:
        if getattr(self, "_fd", -1) < 0:
            return
        if self._connected or self._connecting:
            self._send_end()
        NETWORK.sockets.pop(self._fd, None)
        if self._backlog is not None:
            NETWORK.listeners.pop(self._name[1], None)
            for other in self._backlog:
                other.close()
        self._fd = -1
        self._connected = self._connecting = False
        self._ended = True
        self._stir()

    def detach(self) -> NoReturn:
        """Refused: a virtual descriptor means nothing to anybody else."""
        NETWORK.allowance.refuse("detach a socket's descriptor")

    def dup(self) -> NoReturn:
        """Refused, as `detach` is."""
        NETWORK.allowance.refuse("duplicate a socket")

    # ------------------------------------------------------ its properties

    def _must_be_open(self) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def fileno(self) -> int:
        """Returns the virtual descriptor, -1 when closed."""
        return self._fd

    def setblocking(self, flag: bool, /) -> None:
        """Sets the time-out to none, or to zero."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Says whether calls may wait."""
        return self._timeout != 0

    def settimeout(self, value: float | None, /) -> None:
        """Sets how long calls wait."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        """Returns how long calls wait."""
        return self._timeout

    @property
    def timeout(self) -> float | None:
        """How long calls wait."""
        return self._timeout

    def setsockopt(self, *_: Any) -> None:
        """Accepted; there is no network that it could change."""

    def getsockopt(self, level: int, option: int, *_: Any) -> int:
        """Returns the pending error; all other options are 0."""
        if level == socket_module.SOL_SOCKET and option == socket_module.SO_ERROR:
            problem, self._error = self._error, 0
            return problem
        if level == socket_module.SOL_SOCKET and option == socket_module.SO_TYPE:
            return int(self.type)
        return 0

    def getsockname(self) -> Any:
        """Returns the own address."""
        return self._name

    def getpeername(self) -> Any:
        """Returns the address of the other end."""
        if not self._connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._peer_name

    def get_inheritable(self) -> bool:
        """Nothing is inherited: there are no subprocesses."""
        return False

    def set_inheritable(self, inheritable: bool, /) -> None:
        """Accepted without effect."""

    def makefile(
        self, mode: str = "r", buffering: int | None = None, **names: Any
    ) -> Any:
        """Returns a file object over the socket."""
        make: Any = _RealSocket.makefile
        return make(self, mode, buffering, **names)


# ----------------------------------------------------------------- the run's


def _arrived(number: int, data: bytes) -> None:
    sock = NETWORK.sockets.get(number)
    if sock is not None:
        sock.incoming += data
        sock._stir()


def _hung_up(number: int, data: bytes) -> None:
    sock = NETWORK.sockets.get(number)
    if sock is not None:
        sock._ended = True
        sock._stir()


def _accepted(number: int, data: bytes) -> None:
    sock = NETWORK.sockets.get(number)
    if sock is not None:
        sock._connecting = False
        sock._connected = True
        sock._stir()


def _refused(number: int, data: bytes) -> None:
    sock = NETWORK.sockets.get(number)
    if sock is not None:
        sock._connecting = sock._bus = False
        sock._error = errno.ECONNREFUSED
        sock._stir()


def socketpair(*_: Any) -> tuple[VirtualSocket, VirtualSocket]:
    """``socket.socketpair``."""
    first, second = VirtualSocket(), VirtualSocket()
    first._pair(second)
    return first, second


def install(replacements: Replacements) -> None:
    """Replaces sockets, and listens to what the run says about them."""
    BATON.on_action.update(
        {ARRIVED: _arrived, HUNG_UP: _hung_up, ACCEPTED: _accepted, REFUSED: _refused}
    )
    replacements.put(socket_module, "socket", VirtualSocket)
    replacements.put(socket_module, "SocketType", VirtualSocket)
    replacements.put(socket_module, "socketpair", socketpair)
