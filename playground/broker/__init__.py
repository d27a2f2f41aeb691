"""A broker of our own: in a thread of this process, or a mosquitto beside it.

::

    with EmbeddedBroker() as broker:
        print(broker.url)

It listens on loopback and a free port unless told otherwise. Sessions and
routing are in `mended`, users and rights in `access`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from amqtt.errors import BrokerError

from playground.broker.access import Access, hashed, read_passwords, read_rules
from playground.broker.mended import MendedBroker
from playground.broker.mosquitto import MosquittoProcess, find_mosquitto
from playground.clock import Clock, WallClock
from playground.errors import ConnectionFailed, PlaygroundError
from playground.message import Message

__all__ = ["EmbeddedBroker", "find_mosquitto", "hashed"]

START_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0

_logger = logging.getLogger(__name__)


class EmbeddedBroker:
    """An MQTT broker that starts in milliseconds and stops in bounded time.

    Args:
        host: Address to listen on. Anything wider than loopback needs users or
            an explicit ``allow_anonymous=True``.
        port: TCP port; 0 takes a free one, see `port`.
        websocket_port: Port for MQTT over WebSockets; None is no such listener.
        users: Passwords in plain text by user name.
        password_file: A mosquitto password file, or lines ``user:password``.
        acl_file: A mosquitto ACL file.
        allow_anonymous: Whether clients without a user name may come in; by
            default only where no users are named.
        observer: Called on the broker's thread with every publication as the
            broker took it (publisher's client id, QoS, retain and dup flag as
            sent) and with ``connect``, ``disconnect``, ``subscribe``,
            ``unsubscribe`` and ``will`` events. Backend ``amqtt`` only.
        backend: ``amqtt``, in this process, MQTT 3.1.1; or ``mosquitto``, a
            child process, MQTT 3.1.1 and 5.
        clock: Stamps what the observer sees.

    Raises:
        PlaygroundError: The arguments contradict each other.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        websocket_port: int | None = None,
        users: Mapping[str, str] | None = None,
        password_file: Path | str | None = None,
        acl_file: Path | str | None = None,
        allow_anonymous: bool | None = None,
        observer: Callable[[Message], object] | None = None,
        backend: Literal["amqtt", "mosquitto"] = "amqtt",
        clock: Clock | None = None,
    ) -> None:
        for name, value in (("port", port), ("websocket_port", websocket_port)):
            if value is not None and not 0 <= value <= 65_535:
                raise PlaygroundError(
                    f"{name} is {value}; a port is a number from 0 to 65535.",
                    "0 takes a free one",
                )
        hashes = dict(read_passwords(Path(password_file))) if password_file else {}
        hashes.update({user: hashed(word) for user, word in (users or {}).items()})
        if allow_anonymous is None:
            allow_anonymous = not hashes
            if allow_anonymous and not _is_loopback(host):
                raise PlaygroundError(
                    f"A broker on {host!r} is open to the whole network, "
                    "and no users are named.",
                    "name users (--password-file), or say that everybody may come "
                    "in (--allow-anonymous), or stay on 127.0.0.1",
                )
        acl = Path(acl_file) if acl_file is not None else None
        access = Access(
            users=hashes,
            rules=read_rules(acl) if acl else None,
            allow_anonymous=allow_anonymous,
        )
        self.host = host
        self.backend = backend
        self._server: _Server
        if backend == "mosquitto":
            if observer is not None:
                raise _no_observer()
            self._server = MosquittoProcess(
                host=host,
                port=port,
                websocket_port=websocket_port,
                access=access,
                acl_file=acl,
            )
        elif backend == "amqtt":
            self._server = _AmqttThread(
                host=host,
                port=port,
                websocket_port=websocket_port,
                access=access,
                observer=observer,
                clock=clock or WallClock(),
            )
        else:
            raise PlaygroundError(
                f"{backend!r} is not a backend of the broker.",
                "write 'amqtt' or 'mosquitto'",
            )
        self._running = False

    def start(self) -> Self:
        """Starts listening; returns when clients can connect.

        Raises:
            ConnectionFailed: The port is in use, or the host is not ours.
        """
        if not self._running:
            self._server.start()
            self._running = True
        return self

    def stop(self) -> None:
        """Cuts off all clients and stops listening, within seconds."""
        if self._running:
            self._running = False
            self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Says whether it has been started and not stopped."""
        return self._running

    def observe(self, observer: Callable[[Message], object]) -> list[Message]:
        """Shows every event to one more observer, from now on.

        Returns:
            The retained messages as they stand at this moment.

        Raises:
            PlaygroundError: The backend is mosquitto.
        """
        if not isinstance(self._server, _AmqttThread):
            raise _no_observer()
        return self._server.observe(observer)

    def forget(self, observer: Callable[[Message], object]) -> None:
        """Shows nothing more to an observer; one that is unknown is no error."""
        if isinstance(self._server, _AmqttThread):
            self._server.forget(observer)

    def drain(self, timeout_s: float = STOP_WITHIN_S) -> bool:
        """Waits until subscribers were sent all that has been published.

        Call it before `stop`, or what waits for a slow reader is cut off.

        Returns:
            Whether they were, within the time; a mosquitto sends by itself.
        """
        if not isinstance(self._server, _AmqttThread):
            return True
        return self._server.drain(timeout_s)

    @property
    def port(self) -> int:
        """The TCP port that is really listened on."""
        self._must_run()
        return self._server.port

    @property
    def websocket_port(self) -> int | None:
        """The WebSocket port that is really listened on, if any."""
        self._must_run()
        return self._server.websocket_port

    @property
    def url(self) -> str:
        """What a client on this machine connects to: ``mqtt://127.0.0.1:1883``."""
        return f"mqtt://{_reachable(self.host)}:{self.port}"

    @property
    def websocket_url(self) -> str | None:
        """The same for WebSockets: ``ws://127.0.0.1:9001/mqtt``; None without."""
        port = self.websocket_port
        return None if port is None else f"ws://{_reachable(self.host)}:{port}/mqtt"

    def _must_run(self) -> None:
        if not self._running:
            raise PlaygroundError(
                "The broker is not running, so it has no port.",
                "call start(), or use it in a 'with' statement",
            )


def _no_observer() -> PlaygroundError:
    return PlaygroundError(
        "mosquitto does not tell an observer what passes through it.",
        "use backend 'amqtt', or record through a tap",
    )


class _Server(Protocol):
    port: int
    websocket_port: int | None

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _AmqttThread:
    """amqtt in a thread and an event loop of its own."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        websocket_port: int | None,
        access: Access,
        observer: Callable[[Message], object] | None,
        clock: Clock,
    ) -> None:
        shown = f"[{host}]" if ":" in host else host
        self._where = f"{shown}:{port}"
        listeners = {"default": {"type": "tcp", "bind": f"{shown}:{port}"}}
        if websocket_port is not None:
            self._where += f" and :{websocket_port}"
            listeners["websockets"] = {
                "type": "ws",
                "bind": f"{shown}:{websocket_port}",
            }
        # An empty table of plugins: the default ones log every packet.
        self._config: dict[str, Any] = {"listeners": listeners, "plugins": {}}
        self._access = access
        self._observers = [observer] if observer is not None else []
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.broker: MendedBroker | None = None
        self.port = 0
        self.websocket_port: int | None = None

    def start(self) -> None:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="playground-broker", daemon=True
        )
        self._thread.start()
        try:
            started.result(START_WITHIN_S)
        except BrokerError as error:
            self._thread.join(STOP_WITHIN_S)
            cause = error.__cause__
            said = getattr(cause, "strerror", None) or cause or error
            raise ConnectionFailed(
                f"The broker cannot listen on {self._where}: {said}.",
                "take another port (0 finds a free one), "
                "or as host an address of this machine",
            ) from error
        except TimeoutError as error:
            raise ConnectionFailed(
                f"The broker on {self._where} did not start within "
                f"{START_WITHIN_S:g} s.",
                "try again; is the machine overloaded?",
            ) from error

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if not started.done():
                started.set_exception(error)
            else:
                _logger.exception("the embedded broker died")

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        broker = self.broker = MendedBroker(
            self._config,
            access=self._access,
            clock=self._clock,
            observers=self._observers,
        )
        await broker.start()
        self.port = broker.port("default")
        if "websockets" in self._config["listeners"]:
            self.websocket_port = broker.port("websockets")
        started.set_result(None)
        await self._stop.wait()
        try:
            await asyncio.wait_for(broker.shutdown(), STOP_WITHIN_S / 2)
        except TimeoutError:
            _logger.warning("the embedded broker did not stop in good order")

    def observe(self, observer: Callable[[Message], object]) -> list[Message]:
        broker, loop = self.broker, self._loop
        if broker is None or loop is None or self._thread is None:
            self._observers.append(observer)
            return []

        async def begin() -> list[Message]:
            self._observers.append(observer)
            return list(broker.retained.values())

        return asyncio.run_coroutine_threadsafe(begin(), loop).result(STOP_WITHIN_S)

    def forget(self, observer: Callable[[Message], object]) -> None:
        with contextlib.suppress(ValueError):
            self._observers.remove(observer)

    def drain(self, timeout_s: float) -> bool:
        broker, loop = self.broker, self._loop
        if broker is None or loop is None or self._thread is None:
            return True

        async def settle() -> bool:
            deadline = asyncio.get_running_loop().time() + timeout_s
            while broker.has_backlog:
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(0.005)
            return True

        return asyncio.run_coroutine_threadsafe(settle(), loop).result()

    def stop(self) -> None:
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
            thread.join(STOP_WITHIN_S)
        self._thread = self._loop = self._stop = None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
