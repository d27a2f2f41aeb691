"""Virtual time over a real broker: SimPy waits until everybody has answered.

Everything that is published goes through the broker and comes back before the
run goes on, so the log of a lockstep run is the log of a local run, message for
message. Programs outside this process take part by a protocol of two topics
(docs/clock-protocol.md): after each instant every one of them in turn gets a
tick on ``playground/clock`` and answers on ``playground/clock/ack/<client>``.

No wall clock enters here but the deadline after which a silent client is named.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence

from playground.bus import Bus, Connection, LocalBus, LocalConnection
from playground.clock import DEFAULT_START_NS, VirtualClock
from playground.errors import ConnectionFailed, ExitCode, PlaygroundError
from playground.message import Bundle, Message

logger = logging.getLogger(__name__)

TICK_TOPIC = "playground/clock"
ACK_TOPIC = "playground/clock/ack/"
RETRY_S = 0.05
"""How often the first tick is repeated while clients are still connecting."""


class ClientSilent(PlaygroundError):  # noqa: N818 - reads as a sentence
    """A cooperating client did not acknowledge a tick."""

    exit_code = ExitCode.UNDECIDED


class LockstepClock(VirtualClock):
    """A virtual clock that says when an instant is over.

    Args:
        start_ns: The instant at which ``now`` is 0, nanoseconds since 1970 UTC.
    """

    def __init__(self, start_ns: int = DEFAULT_START_NS) -> None:
        super().__init__(start_ns)
        self.before_first: Callable[[], object] | None = None
        self.after_instant: Callable[[], object] = lambda: None

    def step(self) -> None:
        """Processes the next event; after the last one of an instant, tells."""
        if self.before_first is not None:
            before_first, self.before_first = self.before_first, None
            before_first()
        super().step()
        if self.peek() > self._now:
            # It may put new events into this very instant; then the next step
            # takes those, and tells again.
            self.after_instant()


class LockstepBus(LocalBus):
    """A local bus whose messages travel through a real broker, in virtual time.

    The parts of this process share one connection to the broker, because only
    then is the order in which they spoke the order in which the broker hears
    them. What the broker sends back is what is delivered and logged; sessions,
    wills and subscriptions of these parts are those of the local bus, so hosted
    programs take part as they do there.

    Args:
        broker: The broker, for instance an ``MqttBus``.
        clock: Whose instants are kept in step.
        clients: Client ids of the programs outside that take part.
        deadline_s: Wall seconds after which a silent client ends the run.
    """

    def __init__(
        self,
        broker: Bus,
        clock: LockstepClock,
        *,
        clients: Sequence[str] = (),
        deadline_s: float = 10.0,
    ) -> None:
        super().__init__(clock)
        self.clock: LockstepClock = clock
        self.clients = tuple(clients)
        self.deadline_s = deadline_s
        self.ticks = 0
        self._inbox: queue.Queue[Message] = queue.Queue()
        # Own messages on their way through the broker, in order.
        self._expected: deque[Message] = deque()
        self._answers: dict[str, int] = {}
        self._turn: str | None = None
        self._sent = 0
        self._begun = self._forgetting = False
        self._roots: set[str] = set()
        self._found: dict[str, Message] = {}
        """What the broker had retained before the run."""
        self._closed = False
        self._started = False
        self._link: Connection = broker.connect("playground-run", self._inbox.put)
        # A connection that gathers what is said wants to be told when it is enough,
        # and one without a thread of its own when to listen.
        self._push: Callable[[], object] = getattr(self._link, "push", lambda: None)
        self._receive = getattr(self._link, "receive", None)
        self._link.subscribe("#", qos=2)
        self._begin()
        # A client that is still connecting would miss what is said first.
        clock.before_first = self._greet
        clock.after_instant = self.settle

    def send(self, message: Message) -> None:
        """Sends a publication through the broker."""
        if message.topic[0] == "$" and not self._comes_back(message.topic):
            if self._turn is None:
                self._await(lambda: not self._expected, "the broker")
            super().send(message)
            return
        is_heard = self.listeners(message.topic) > 0
        self._expected.append(message)
        self._sent += 1
        self._link.publish(
            message.topic,
            message.payload,
            qos=message.qos,
            retain=message.retain,
            properties=message.properties,
        )
        # Somebody in this process listens: they must hear it within this
        # instant, before anything else happens, as they do on the local bus.
        if self._turn is None and is_heard:
            self._await(lambda: not self._expected, "the broker")

    def send_all(
        self, sender: LocalConnection, bundle: Bundle, payloads: list[bytes]
    ) -> None:
        """Sends publications of one client through the broker, one by one."""
        for message in bundle.messages(
            self.clock.time_ns(), sender.client_id, payloads
        ):
            sender.must_be_connected("publish")
            self.send(message)

    def add_subscription(
        self, connection: LocalConnection, topic_filter: str, qos: int
    ) -> None:
        """Registers a subscription and sends the retained messages it covers."""
        if topic_filter[0] == "$":
            self._comes_back(topic_filter)
        # What was said before is retained by now on the local bus.
        if self._turn is None:
            self._await(lambda: not self._expected, "the broker")
        super().add_subscription(connection, topic_filter, qos)

    def _comes_back(self, topic: str) -> bool:
        """Sees to it that what is said below ``$`` comes back; ``#`` does not cover it.

        Returns:
            Whether it does; what is below ``$SYS`` the broker takes from nobody.
        """
        root = topic.partition("/")[0]
        if root in ("$SYS", "$share"):
            return False
        if root not in self._roots:
            self._roots.add(root)
            self._link.subscribe(f"{root}/#", qos=2)
        return True

    def forget_retained(self) -> None:
        """Loses all retained messages, those of the broker too.

        What it takes to clear them there is nobody's word: it is not logged, and
        programs outside know from the two words around it that they are to ignore it.
        """
        self._await(lambda: not self._expected, "the broker")
        topics = [*self.retained]
        super().forget_retained()
        self._say({"forget": True})
        self._forgetting = True
        for topic in topics:
            self._link.publish(topic, b"", retain=True)
        self._say({"forget": False})
        self._await(lambda: not self._forgetting, "the broker")

    def settle(self) -> None:
        """Ends an instant: all has arrived, and every client has had its say.

        Raises:
            ClientSilent: A client did not answer within the deadline.
        """
        # MQTT keeps the order of what we say at QoS 0, so the tick may follow at once:
        # it overtakes nothing, and what comes back comes before the answer to it.
        if not self.clients or any(message.qos for message in self._expected):
            self._await(lambda: not self._expected, "the broker")
        if not self.clients:
            return
        heard = -1
        # An answer may provoke an answer. Go round until nobody has said
        # anything since everybody was last asked.
        while heard != self._sent:
            heard = self._sent
            for client in self.clients:
                self._tick(client)
            self._await(lambda: not self._expected, "the broker")

    def close(self) -> None:
        """Tells the clients that the run is over, and leaves the broker."""
        if self._closed:
            return
        self._closed = True
        if self._started:
            self._say({"end": True, "now": self.clock.now})
        with contextlib.suppress(ConnectionFailed):
            self._restore()
            self._push()
        self._link.disconnect()

    def _restore(self) -> None:
        """Leaves the broker as it was found, for the next run on it."""
        nothing = Message(0, "", b"")
        for topic in dict.fromkeys((*self.retained, *self._found)):
            found = self._found.get(topic)
            if found != self.retained.get(topic):
                found = found or nothing
                self._link.publish(
                    topic,
                    found.payload,
                    qos=found.qos,
                    retain=True,
                    properties=found.properties,
                )

    def _begin(self) -> None:
        """Takes over the retained state that the broker has already."""
        # What arrives before our own word is state; what comes after is the run.
        self._say({"begin": self.clock.time_ns()})
        self._await(lambda: self._begun, "the broker")
        self._found = dict(self.retained)

    def _greet(self) -> None:
        """Repeats the first tick until every client is there."""
        self._started = bool(self.clients)
        give_up = time.monotonic() + self.deadline_s
        for client in self.clients:
            while client not in self._answers:
                self._say({"tick": 0, "client": client})
                try:
                    self._await(
                        lambda client=client: client in self._answers,  # type: ignore[misc]
                        f"client {client!r}",
                        deadline_s=RETRY_S,
                    )
                except ClientSilent:
                    if time.monotonic() > give_up:
                        raise ClientSilent(
                            f"Client {client!r} did not appear within "
                            f"{self.deadline_s:g} s.",
                            f"start it; it must answer on {ACK_TOPIC}{client}",
                        ) from None

    def _tick(self, client: str) -> None:
        self.ticks += 1
        tick = self.ticks
        self._turn = client
        self._say(
            {
                "tick": tick,
                "client": client,
                "now": self.clock.now,
                "time_ns": self.clock.time_ns(),
            }
        )
        try:
            self._await(
                lambda: self._answers.get(client, -1) >= tick, f"client {client!r}"
            )
        finally:
            self._turn = None

    def _say(self, tick: dict[str, object]) -> None:
        self._link.publish(TICK_TOPIC, json.dumps(tick).encode())

    def _await(
        self,
        done: Callable[[], bool],
        whom: str,
        *,
        deadline_s: float | None = None,
    ) -> None:
        """Takes what the broker sends until ``done``."""
        self._push()
        wait_s = self.deadline_s if deadline_s is None else deadline_s
        give_up = time.monotonic() + wait_s
        while not done():
            try:
                message = self._next_message(max(0.0, give_up - time.monotonic()))
            except queue.Empty:
                text = (
                    f"At {self.clock.now:g} s of the run {whom} did not answer "
                    f"within {wait_s:g} s."
                )
                if whom == "the broker":
                    raise ConnectionFailed(
                        text, "see whether the broker still runs and takes messages"
                    ) from None
                raise ClientSilent(
                    text,
                    "see whether it still runs; it must answer each tick on "
                    f"{ACK_TOPIC}<client> within the deadline",
                ) from None
            self._take(message)
            # What was said in answer must not wait for us.
            self._push()

    def _next_message(self, timeout_s: float) -> Message:
        """Returns what the broker sent next; raises `queue.Empty` if it did not."""
        if self._receive is None:
            return self._inbox.get(timeout=timeout_s)
        give_up = time.monotonic() + timeout_s
        while self._inbox.empty():
            if not self._receive(max(0.0, give_up - time.monotonic())):
                raise queue.Empty
        return self._inbox.get()

    def _take(self, message: Message) -> None:
        topic = message.topic
        if topic.startswith(ACK_TOPIC):
            self._take_answer(topic.removeprefix(ACK_TOPIC), message.payload)
        elif topic == TICK_TOPIC:
            self._begun = True
            if self._forgetting:
                self._forgetting = json.loads(message.payload).get("forget", True)
        elif self._forgetting:
            pass
        elif (own := self._own(message)) is not None:
            super().send(own)
        elif not self._begun:
            if message.retain:
                self.retained[topic] = message
        else:
            super().send(
                message._replace(time_ns=self.clock.time_ns(), client=self._turn)
            )

    def _own(self, message: Message) -> Message | None:
        """Returns what we published, if this is it coming back."""
        for number, sent in enumerate(self._expected):
            if sent.topic == message.topic and sent.payload == message.payload:
                # Usually the first; QoS 1 and 2 may be overtaken by QoS 0.
                del self._expected[number]
                return sent
        return None

    def _take_answer(self, client: str, payload: bytes) -> None:
        try:
            answer = json.loads(payload)
            tick, wake_up = int(answer["tick"]), answer.get("next")
            wake_up = None if wake_up is None else float(wake_up)
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.warning(
                "client %r answered %r, which is not {'tick': number}; ignored",
                client,
                payload[:80],
            )
            return
        self._answers[client] = max(tick, self._answers.get(client, -1))
        if wake_up is not None and wake_up > self.clock.now:
            # Nothing need happen then: an instant is what the client asked for.
            self.clock.at(wake_up)
