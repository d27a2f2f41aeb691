"""The process of a program in real time: ``python -m playground.host.launcher``.

The program runs as at home: real clocks, real threads, real sockets. Two things only
are different. What it takes for the plant's broker is that of the run: every address
that the run maps to the bus leads there. And it may reach nothing else, for the rules
are those of virtual time. This has to be arranged before its first line is read.
"""

from __future__ import annotations

import _socket
import _thread
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from playground.host.allowance import Allowance
from playground.host.execution import execute
from playground.host.network import LOOPBACK, NETWORK
from playground.host.place import describe, without_ours
from playground.host.replacement import Replacements
from playground.host.tls import install as install_tls

_pthread_kill = signal.pthread_kill
_read = os.read


def main() -> None:
    """Runs the program that the run asks for, once it is told to."""
    control_fd, report_fd = map(int, sys.argv[1:3])
    orders = _Orders(control_fd)
    settings = json.loads(orders.next())
    rules = RealAllowance(settings, report_fd)
    way = Way(settings["broker"], rules)
    parts = Replacements()
    way.install(parts)
    if not settings["encrypted"]:
        install_tls(rules)
    sys.dont_write_bytecode = True
    rules.report("ready")  # see `command.READY`
    if orders.next() != "go":
        return
    stopping = _stop_when_told(orders)
    rules.enforce()
    sys.exit(_guarded(lambda: execute(settings), rules, stopping))


class RealAllowance(Allowance):
    """What a program may reach in real time: what it may in virtual time.

    Args:
        settings: ``hosts`` and ``writable``, see `Allowance`.
        report_fd: Where findings are written, a line each.
    """

    def __init__(self, settings: dict[str, Any], report_fd: int) -> None:
        super().__init__(hosts=settings["hosts"], writable=settings["writable"])
        self._report_fd = report_fd
        self.connections: set[tuple[str, int]] = set()
        """Addresses that a real socket may connect to."""
        threading.excepthook = self._excepthook(threading.excepthook)

    def report(self, kind: str, text: str = "") -> None:
        """Writes a line to the run."""
        line = json.dumps({"kind": kind, "text": text}).encode() + b"\n"
        os.write(self._report_fd, line)

    def find(self, kind: str, text: str) -> None:
        """Reports a finding; the run knows what time it is."""
        self.report(kind, text)

    def _excepthook(self, real: Callable[[Any], object]) -> Callable[[Any], object]:
        def hook(args: Any) -> None:
            real(args)
            if args.exc_value is not None and args.exc_type is not SystemExit:
                name = args.thread.name if args.thread else "a thread"
                self.find("exception", f"{name} ended by {describe(args.exc_value)}")

        return hook

    def _rules(self) -> dict[str, Callable[[tuple[Any, ...]], None]]:
        rules = super()._rules()
        forbid_network, forbid_kill = rules["socket.sendto"], rules["os.kill"]

        def made(args: tuple[Any, ...]) -> None:
            kind = int(args[2])
            # -1 is asked for where a descriptor says itself what it is.
            if kind not in (-1, 0) and not kind & socket.SOCK_STREAM:
                self.refuse(
                    f"open a socket of kind {socket.SocketKind(kind & 0xF).name}"
                )

        def bound(args: tuple[Any, ...]) -> None:
            if not isinstance(args[1], tuple) or args[1][0] not in LOOPBACK:
                forbid_network(args)

        def connected(args: tuple[Any, ...]) -> None:
            address = args[1]
            if not isinstance(address, tuple) or address[:2] not in self.connections:
                forbid_network(args)

        def killed(args: tuple[Any, ...]) -> None:
            if args[0] != os.getpid():
                forbid_kill(args)

        return {
            **rules,
            "socket.__new__": made,
            "socket.bind": bound,
            "socket.connect": connected,
            "os.kill": killed,
        }


class Way:
    """Where the connections of a program lead: to the broker of the run.

    Args:
        broker: Host and port of the broker.
        rules: Which addresses lead there, and what is refused.
    """

    def __init__(self, broker: list[Any], rules: RealAllowance) -> None:
        host, port = str(broker[0]), int(broker[1])
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # IPv4 first, as most listeners have it.
        family, _, _, _, address = min(found, key=lambda each: each[0])
        self.family = family
        self.target: Any = address
        self._names = {(host, port), (str(address[0]), port)}
        self._rules = rules
        self._listening: set[int] = set()
        rules.connections.add((str(address[0]), port))

    def install(self, parts: Replacements) -> None:
        """Takes the place of what leads out of the process."""
        way = self
        NETWORK.allowance = self._rules
        real_connect = _socket.socket.connect
        real_connect_ex = _socket.socket.connect_ex
        real_bind = _socket.socket.bind
        real_listen = _socket.socket.listen

        def connect(self: Any, address: Any, /) -> None:
            real_connect(self, way.lead(address))

        def connect_ex(self: Any, address: Any, /) -> int:
            return real_connect_ex(self, way.lead(address))

        def bind(self: Any, address: Any, /) -> None:
            if isinstance(address, tuple) and address[0] in ("", "0.0.0.0", "::"):
                # Nobody but the program itself is to reach it.
                alone = "::1" if self.family == socket.AF_INET6 else "127.0.0.1"
                address = (alone, *address[1:])
            real_bind(self, address)

        def listen(self: Any, *backlog: int) -> None:
            real_listen(self, *backlog)
            name = self.getsockname()
            way._listening.add(name[1])
            way._rules.connections.add((str(name[0]), int(name[1])))

        for function in (connect, connect_ex, bind, listen):
            setattr(socket.socket, function.__name__, function)
        parts.put(socket, "getaddrinfo", self.getaddrinfo)
        parts.put(socket, "gethostbyname", NETWORK.gethostbyname)
        parts.spread()

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """``socket.getaddrinfo``, without a name server."""
        made_up = NETWORK.getaddrinfo(host, port, family, type, proto, flags)
        its_family = socket.AF_INET if made_up[0][4][0] == "127.0.0.1" else self.family
        return [(its_family, *rest) for _, *rest in made_up]

    def lead(self, address: Any) -> Any:
        """Returns where a connection to an address goes.

        Raises:
            NotAllowed: It does not lead to the bus.
        """
        if not isinstance(address, tuple):
            self._rules.refuse(f"connect to the socket {address!r}")
        host, port = NETWORK.host(str(address[0])), int(address[1])
        if host in LOOPBACK and port in self._listening:
            return address
        if (host, port) not in self._names:
            self._rules.check_connection(host, port)
        return self.target


class _Orders:
    """What the run says, line by line; without a buffer that a thread could hold."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def next(self) -> str:
        """Returns the next line, empty when the run is gone."""
        line = b""
        while not line.endswith(b"\n"):
            piece = _read(self._fd, 1)
            if not piece:
                return ""
            line += piece
        return line.decode().rstrip("\n")


def _stop_when_told(orders: _Orders) -> list[bool]:
    """Waits, beside the program, for the word that it is to end.

    Returns:
        A list that is no longer empty once the word has come.
    """
    told: list[bool] = []
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def wait() -> None:
        if orders.next() != "stop":
            os._exit(1)  # The run is gone; so is the plant.
        told.append(True)
        handled = signal.getsignal(signal.SIGTERM) not in (
            signal.SIG_DFL,
            signal.SIG_IGN,
            None,
        )
        _pthread_kill(main_thread, signal.SIGTERM if handled else signal.SIGINT)

    _thread.start_new_thread(wait, ())
    return told


def _guarded(
    part: Callable[[], object], rules: RealAllowance, stopping: list[bool]
) -> Any:
    """Returns what is to be given to ``sys.exit``."""
    try:
        part()
    except SystemExit as end:
        return end.code
    except KeyboardInterrupt as error:
        if stopping:
            return 0
        _show(error)
        return 128 + signal.SIGINT
    except BaseException as error:  # noqa: BLE001 - whatever it raises
        _show(error)
        rules.find("crash", describe(error))
        return 1
    return 0


def _show(error: BaseException) -> None:
    trace = without_ours(error.__traceback__)
    sys.excepthook(type(error), error.with_traceback(trace), trace)


if __name__ == "__main__":
    main()
