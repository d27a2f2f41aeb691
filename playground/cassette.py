"""Cassettes: a session with a real broker, recorded once and played in every test.

The code under test connects to a broker of the cassette's own. While recording,
what the code says is passed on to the real broker and what the real broker answers
is passed back; both are written down in the order in which they happened. When
playing there is no real broker: what was answered comes as soon as the code has
said all that it had said before. What the code says is matched by topic and order;
the wall clock plays no part.

A cassette is a recording like any other. In it ``client`` tells who spoke: the code
under test has a name, the real broker has none.
"""

from __future__ import annotations

import json
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from playground.bus import Will
from playground.client import BrokerWithClients, Client, shown
from playground.diff import Ignore
from playground.errors import PlaygroundError, closest
from playground.message import Message, matches
from playground.mqtt import MqttBus, MqttConnection
from playground.quantity import seconds
from playground.recording import Recording, RecordingWriter

Mode = Literal["none", "once", "new", "all", "rewrite"]
MODES: tuple[Mode, ...] = get_args(Mode)
Redact = Callable[[Message], Message | None]
REDACTED = "REDACTED"
_BRIDGE = "playground-cassette"
_SETTLED = "playground/cassette/settled"
_SETTLE_S = 10.0


class RecordingExpired(UserWarning):
    """A recording is older than its test allows."""


def check_age(
    recording: Recording,
    max_age: str,
    *,
    today: date,
    name: str,
    expired: Literal["fail", "warn"] = "fail",
    again: str = "",
) -> None:
    """Refuses a recording that is too old to stand for the plant of today.

    Args:
        recording: Whose end counts.
        max_age: ``"180d"``.
        today: The present day, UTC.
        name: Of the recording, for the message.
        expired: ``fail``, or only ``warn``.
        again: The command that records it anew.

    Raises:
        PlaygroundError: It is too old, and that fails.
    """
    made = datetime.fromtimestamp(recording.end_ns / 1e9, UTC).date()
    age_d = (today - made).days
    if age_d * 86_400 <= seconds(max_age):
        return
    problem = f"{name} is of {made}, {age_d} days old; its test allows {max_age}."
    if expired == "fail":
        raise PlaygroundError(problem, f"record it anew: {again}" if again else "")
    warnings.warn(problem, RecordingExpired, stacklevel=3)


def redaction(texts: Sequence[str]) -> Redact:
    """Returns what takes secrets out of messages before they are written.

    Args:
        texts: ``"wifi/#"`` takes the whole payload away, ``"lab/+/status:$.token"``
            one field of a JSON payload, ``"$.token"`` that field on every topic.

    Raises:
        PlaygroundError: A filter is none, or a path is empty.
    """
    hidden = Ignore.parse(texts)

    def redact(message: Message) -> Message:
        if message.kind != "publish":
            return message
        if any(matches(one, message.topic) for one in hidden.topics):
            return message._replace(payload=REDACTED.encode())
        paths = hidden.paths_of(message.topic)
        if not paths:
            return message
        try:
            tree = json.loads(message.payload)
        except ValueError:
            return message
        changed = [_hide(tree, path.split(".")) for path in paths]
        if not any(changed):
            return message
        return message._replace(
            payload=json.dumps(tree, separators=(",", ":")).encode()
        )

    return redact


def _hide(tree: Any, way: list[str]) -> bool:
    """Replaces a field; says whether there was one."""
    if isinstance(tree, list):
        # Every entry has one, so no stopping at the first.
        hidden = [_hide(entry, way) for entry in tree]
        return any(hidden)
    if not isinstance(tree, dict) or way[0] not in tree:
        return False
    if len(way) > 1:
        return _hide(tree[way[0]], way[1:])
    tree[way[0]] = REDACTED
    return True


class Cassette:
    """A broker that answers as the real one did; see the top of this module.

    Args:
        path: The recording.
        mode: ``none`` plays and never records; ``once`` records if there is
            nothing yet; ``new`` plays what is there and goes on with the real
            broker where the code says something new; ``all`` records always and
            replaces what was there if the test passes; ``rewrite`` removes it
            first and keeps the new one in any case.
        broker: The real broker, to record from.
        redact: Changes a message, or leaves it out, before it is written.
        payloads: What the code says must be the same byte by byte too.
        command: The command that records it, for messages.

    Attributes:
        path: The recording.
        recording_now: The real broker is asked.
        problems: What the code said that the cassette does not know.

    Raises:
        PlaygroundError: There is no such recording and none may be made, or no
            broker to make it from.
        ConnectionFailed: The real broker cannot be reached.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: Mode = "none",
        broker: str | None = None,
        redact: Redact | None = None,
        payloads: bool = False,
        command: str = "",
    ) -> None:
        if mode not in MODES:
            raise PlaygroundError(
                f"{mode!r} is not a way to record.{closest(mode, MODES)}",
                f"write one of {', '.join(MODES)}",
            )
        self.path = path
        self.mode = mode
        self.problems: list[str] = []
        self._real_url = broker
        self._redact = redact or (lambda message: message)
        self._payloads = payloads
        self._command = command
        exists = path.exists()
        if mode == "rewrite" and exists:
            path.unlink()
            exists = False
        self.recording_now = mode in ("all", "rewrite") or (
            mode in ("once", "new") and not exists
        )
        if mode == "none" and not exists:
            raise PlaygroundError(
                f"There is no cassette {path}, and the record mode is 'none'.",
                f"record it: {command}" if command else "record it first",
            )
        self._rows: list[Message] = []
        if not self.recording_now:
            self._rows = list(
                Recording.open(path).messages(kinds=("publish", "subscribe"))
            )
        self._real: MqttConnection | None = None
        self._asked: set[str] = set()
        self._echoes: deque[tuple[str, bytes]] = deque()
        self._taken: list[Message] = []
        self._open: dict[tuple[str, str], deque[int]] = {}
        for number, row in enumerate(self._rows):
            if row.client is not None:
                self._open.setdefault((row.kind, row.topic), deque()).append(number)
        self._played = 0
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._settled = threading.Event()
        self._broker = BrokerWithClients()
        self._bridge: MqttConnection | None = None
        self._worker = threading.Thread(
            target=self._work, name="playground-cassette", daemon=True
        )
        self._failure: Exception | None = None

    @property
    def url(self) -> str:
        """The broker that the code under test connects to."""
        return self._broker.url

    @property
    def recording(self) -> Recording:
        """What is on the cassette."""
        return Recording.open(self.path)

    @property
    def unplayed(self) -> list[Message]:
        """What the code has said on the cassette and has not said yet this time."""
        numbers = sorted(n for waiting in self._open.values() for n in waiting)
        return [self._rows[n] for n in numbers if self._rows[n].kind == "publish"]

    def client(
        self,
        client_id: str | None = None,
        *,
        subscribe: Iterable[str] | str = (),
        will: Will | None = None,
    ) -> Client:
        """Returns a connected client; it counts as code under test.

        Args:
            client_id: By default ``test-1``, ``test-2`` and so on.
            subscribe: Topic filters it listens to from the beginning.
            will: What the broker says if it vanishes.
        """
        return self._broker.client(client_id, subscribe=subscribe, will=will)

    # ------------------------------------------------------------ begin and end

    def start(self) -> None:
        """Starts the broker; connects to the real one if it is to be recorded.

        Raises:
            PlaygroundError: There is no broker to record from.
            ConnectionFailed: The real broker cannot be reached.
        """
        self._broker.start()
        try:
            if self.recording_now:
                self._go_live()
            self._bridge = MqttBus(self._broker.url, protocol="3.1.1").connect(_BRIDGE)
        except BaseException:
            self._broker.stop()
            raise
        self._broker.observe(self._inbox.put)
        self._worker.start()
        self._release()

    def settle(self) -> None:
        """Returns when all that was said so far has been dealt with."""
        if self._real is not None:
            self._real.flush()
        assert self._bridge is not None
        self._settled.clear()
        self._bridge.publish(_SETTLED, b"", qos=1)
        self._settled.wait(_SETTLE_S)
        if self._failure is not None:
            raise self._failure

    def check(self) -> None:
        """Raises if the code said something that the cassette does not know.

        Raises:
            AssertionError: It did.
        """
        self.settle()
        if self.problems:
            raise AssertionError("\n".join(self.problems))

    def stop(self, *, passed: bool = True) -> None:
        """Stops the broker; writes down what was recorded.

        Args:
            passed: The test passed; of one that failed nothing is kept but in
                mode ``rewrite``.
        """
        if self._worker.is_alive():
            self.settle()
            self._inbox.put(None)
            self._worker.join(_SETTLE_S)
        if self._real is not None:
            self._real.disconnect()
        if self._bridge is not None:
            self._bridge.disconnect()
        self._broker.stop()
        if self._taken and (passed or self.mode == "rewrite"):
            self._save()

    def _save(self) -> None:
        told = [self._redact(message) for message in self._taken]
        rows = [*self._rows, *(message for message in told if message is not None)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {
            "start_ns": rows[0].time_ns if rows else 0,
            "end_ns": rows[-1].time_ns if rows else 0,
            "session": "cassette",
            "broker": self._real_url,
        }
        with RecordingWriter(
            self.path, metadata=metadata, journal=False, overwrite=True
        ) as writer:
            for message in rows:
                writer.append(message)

    # --------------------------------------------------------- the real broker

    def _go_live(self) -> None:
        if self._real_url is None:
            raise PlaygroundError(
                f"{self.path} is to be recorded, but no broker is named.",
                "add --mqtt-record-broker mqtt://HOST, or "
                "@pytest.mark.cassette(broker='mqtt://HOST')",
            )
        self._real = MqttBus(self._real_url, retain_as_published=True).connect(
            f"{_BRIDGE}-{id(self):x}", self._answered
        )
        self.recording_now = True

    def _answered(self, message: Message) -> None:
        """Passes on what the real broker says; called on its network thread."""
        echo = (message.topic, message.payload)
        if echo in self._echoes:
            # What the code said itself and the broker at hand has delivered.
            self._echoes.remove(echo)
            return
        self._say(message)

    def _say(self, message: Message) -> None:
        assert self._bridge is not None
        self._bridge.publish(
            message.topic, message.payload, qos=message.qos, retain=message.retain
        )

    # ----------------------------------------------------- what the code says

    def _work(self) -> None:
        while (message := self._inbox.get()) is not None:
            try:
                self._take(message)
            except Exception as error:  # noqa: BLE001 - told by settle()
                self._failure = self._failure or error

    def _take(self, message: Message) -> None:
        if message.kind == "will":
            message = message._replace(kind="publish")
        if message.kind not in ("publish", "subscribe"):
            return
        if message.client == _BRIDGE:
            if message.topic == _SETTLED:
                self._settled.set()
            elif self.recording_now:
                self._taken.append(message._replace(client=None))
            return
        if not self.recording_now:
            self._match(message)
            if not self.recording_now:
                return
        self._taken.append(message)
        self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        assert self._real is not None
        if message.kind == "subscribe":
            if message.topic not in self._asked:
                self._asked.add(message.topic)
                self._real.subscribe(message.topic, qos=message.qos)
            return
        if any(matches(one, message.topic) for one in self._asked):
            self._echoes.append((message.topic, message.payload))
        self._real.publish(
            message.topic, message.payload, qos=message.qos, retain=message.retain
        )

    def _match(self, message: Message) -> None:
        """Finds what the code says on the cassette, and plays the answers to it."""
        if message.kind == "subscribe":
            self._asked.add(message.topic)
        waiting = self._open.get((message.kind, message.topic))
        if not waiting:
            if self.mode == "new":
                asked, self._asked = self._asked, set()
                self._go_live()
                assert self._real is not None
                for topic_filter in asked - {message.topic}:
                    self._asked.add(topic_filter)
                    self._real.subscribe(topic_filter, qos=1)
                return
            self._unknown(message)
            return
        row = self._rows[waiting.popleft()]
        said = self._redact(message)
        if (
            self._payloads
            and message.kind == "publish"
            and said is not None
            and said.payload != row.payload
        ):
            self.problems.append(
                f"The code says something else than on the cassette {self.path.name}:\n"
                f"    expected  {shown(row)}\n    got       {shown(said)}" + self._how()
            )
        self._release()

    def _unknown(self, message: Message) -> None:
        times = sum(
            row.kind == message.kind
            and row.topic == message.topic
            and row.client is not None
            for row in self._rows
        )
        what = (
            f"subscribes to {message.topic!r}"
            if message.kind == "subscribe"
            else f"publishes {shown(message)}"
        )
        # A second subscription to the same topics asks for nothing new.
        if message.kind == "subscribe" and times:
            return
        known = [row.topic for row in self._rows if row.kind == message.kind]
        told = (
            f"there it says that {times} time{'s' * (times != 1)}, and has said it"
            if times
            else f"that is not on it.{closest(message.topic, known)}"
        )
        self.problems.append(
            f"The code {what}; on the cassette {self.path.name} {told}{self._how()}"
        )

    def _how(self) -> str:
        return f"\n  fix: record it anew: {self._command}" if self._command else ""

    def _release(self) -> None:
        """Says what was answered before the first thing that is still to be said."""
        first_open = min(
            (waiting[0] for waiting in self._open.values() if waiting),
            default=len(self._rows),
        )
        while self._played < first_open:
            row = self._rows[self._played]
            self._played += 1
            if row.client is None:
                self._say(row)
