"""A client without a thread of its own: it hears when it is asked to.

Who speaks and listens in turn, as lockstep does, waits for the answer anyway.
Handing each message from a network thread to the one that waits for it takes
longer than the way through the broker and back.
"""

from __future__ import annotations

import contextlib
import selectors
import ssl
import time
from collections.abc import Callable
from typing import Any

from playground.errors import PlaygroundError
from playground.mqtt import failures
from playground.mqtt.receiver import ANSWER_WITHIN_S
from playground.mqtt.sender import Sender
from playground.packets import Disconnect, Pingreq, Suback, Unsuback, encode

_CHUNK = 2**16


class Dialogue(Sender):
    """Speaks to a broker and listens, in one thread; made by `MqttBus.converse`.

    What is published is gathered until `push` or `receive`; ``on_message`` is
    called within `receive`, and within the calls that wait for the broker. Nobody
    keeps the connection alive in between, so it asks the broker not to mind.
    """

    def open(self) -> None:
        """Connects; `MqttBus.converse` calls it. See `Receiver.open`."""
        self._keep_alive_s = 0
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        try:
            self._connect(clean=self._clean)
        except BaseException:
            self._close()
            raise
        self._connected = True
        assert self._socket is not None
        self._selector.register(self._socket, selectors.EVENT_READ)
        # What came together with CONNACK.
        self._take_all()

    def push(self) -> None:
        """Sends what was gathered, as far as the broker takes it.

        Raises:
            ConnectionFailed: The connection is lost.
        """
        super().push()
        if self._queue and self._socket is not None:
            with contextlib.suppress(OSError):  # reading finds out what is the matter
                self._rest = self._write(self._socket, self._rest)

    def receive(self, timeout_s: float) -> bool:
        """Sends what was gathered, and hears what has come.

        Args:
            timeout_s: How long to wait for something to come.

        Returns:
            Whether something came.

        Raises:
            ConnectionFailed: The connection is lost.
        """
        self.push()
        return self._pump(timeout_s)

    def disconnect(self, *, forget: bool = False) -> None:
        """Says goodbye; may be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._queue.append(encode(Disconnect(), self._version))
        give_up = time.monotonic() + ANSWER_WITHIN_S
        with contextlib.suppress(PlaygroundError):
            while (self._queue or self._rest) and time.monotonic() < give_up:
                self._pump(0.1)
        self._close()

    def flush(self, timeout_s: float = 30.0) -> None:
        """Returns when the broker has read everything, and acknowledged it.

        Raises:
            ConnectionFailed: It takes longer, or the connection is lost.
        """
        give_up = time.monotonic() + timeout_s
        self.push()
        # It answers in order: after this answer it has read all before.
        self._echoed.clear()
        self._send(Pingreq())
        while not self._is_settled():
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise self._not_taken(timeout_s)
            self._pump(left_s)

    def _pump(self, timeout_s: float) -> bool:
        """Writes and reads as far as it goes; waits if there is nothing to read."""
        connection = self._socket
        if connection is None or self._lost_because is not None:
            raise self._lost()
        give_up = time.monotonic() + timeout_s
        pending = getattr(connection, "pending", None)  # of TLS
        reason = "the broker closed the connection"
        try:
            while True:
                if self._queue or self._rest:
                    self._rest = self._write(connection, self._rest)
                if not (pending and pending()):
                    events = selectors.EVENT_READ
                    if self._rest:
                        events |= selectors.EVENT_WRITE
                    if events != self._selector.get_key(connection).events:
                        self._selector.modify(connection, events)
                    left_s = max(0.0, give_up - time.monotonic())
                    ready = self._selector.select(left_s)
                    if not ready:
                        return False
                    if not ready[0][1] & selectors.EVENT_READ:
                        continue
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                    data = connection.recv(_CHUNK)
                    if not data:
                        break
                    self._reader.feed(data)
                    if not self._take_all():
                        reason = self._server_said or reason
                        break
                    if self._queue:  # acknowledgements
                        self._rest = self._write(connection, self._rest)
                    return True
        except OSError as error:
            reason = error.strerror or str(error)
        except PlaygroundError as error:
            reason = f"the broker sent what is no MQTT: {error.problem}"
        self._lose(reason)
        self._close()
        raise self._lost()

    def _close(self) -> None:
        self._connected = False
        self._selector.close()
        self._close_socket()
        self._wake_reading.close()
        self._wake_writing.close()

    def _wake(self) -> None:
        """There is no other thread to wake."""

    def _wait(self, is_so: Callable[[], Any]) -> None:
        while not is_so() and self._lost_because is None:
            self._pump(1.0)

    def _wait_for_answer(self, packet_id: int, verb: str) -> Suback | Unsuback:
        give_up = time.monotonic() + ANSWER_WITHIN_S
        while self._answers[packet_id] is None and time.monotonic() < give_up:
            self._pump(max(0.0, give_up - time.monotonic()))
        answer = self._answers.pop(packet_id)
        if answer is None:
            raise failures.no_reply(self._bus.url, self.client_id, verb)
        return answer
