"""What of a recording is played, and as what.

Filters, time range, renamed topics, overridden QoS and retain flag, a
function over each message. Everything is decided before the first message goes
out; nothing here knows a bus or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from playground.errors import NotEnoughData, PlaygroundError, closest
from playground.message import Message, TopicFilters, check_filter, check_topic, matches
from playground.recording import Recording
from playground.recording.retained import SAID, last_retained
from playground.replay.control import CONTROL_FILTER

Transformer = Callable[[Message], Message | None]
"""Returns the message to play in place of one, or None to leave it out."""
RetainRule = Literal["preserve", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remap:
    """A rule that renames topics: ``a/+/c/#`` to ``b/+/#``.

    Wildcards of the target stand for what those of the source covered, in order.
    """

    source: str
    target: str

    @classmethod
    def parse(cls, text: str) -> Remap:
        """Reads ``SOURCE=TARGET``.

        Raises:
            PlaygroundError: No '=', a bad filter, or a target with wildcards
                that the source does not have.
        """
        source, equals, target = text.partition("=")
        if not equals:
            raise PlaygroundError(
                f"Remap {text!r} has no '='.", "write for instance 'a/#=b/#'"
            )
        check_filter(source)
        check_filter(target)
        wild = [level for level in source.split("/") if level in ("+", "#")]
        wanted = [level for level in target.split("/") if level in ("+", "#")]
        for wildcard in ("+", "#"):
            if wanted.count(wildcard) > wild.count(wildcard):
                raise PlaygroundError(
                    f"Remap {text!r}: the target has more {wildcard!r} than the "
                    "source, so nothing says what it stands for.",
                    "use as many wildcards on the right as on the left, or fewer",
                )
        return cls(source=source, target=target)

    def __call__(self, topic: str) -> str | None:
        """Returns the new name of a topic, or None if the rule does not cover it."""
        if not matches(self.source, topic):
            return None
        levels = topic.split("/")
        single: list[str] = []
        rest: list[str] = []
        for number, level in enumerate(self.source.split("/")):
            if level == "#":
                rest = levels[number:]
            elif level == "+":
                single.append(levels[number])
        renamed: list[str] = []
        taken = iter(single)
        for level in self.target.split("/"):
            if level == "#":
                renamed.extend(rest)
            else:
                renamed.append(next(taken) if level == "+" else level)
        return check_topic("/".join(renamed))


class Selection:
    """The part of a recording that is played, and how it is changed on the way.

    Args:
        recording: What is played.
        topics: Topic filters, by the names in the recording; none means all.
        exclude: Topic filters of what is left out.
        start_ns: First instant played; the first selected message by default.
        end_ns: First instant not played any more; open by default.
        remap: The first rule that covers a topic renames it.
        qos: Overrides the QoS of every message.
        retain: ``never`` plays every message without the retain flag.
        transform: Has the last word on every message.

    Raises:
        PlaygroundError: A filter, a range or a rule is wrong or selects nothing.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        topics: Sequence[str] = (),
        exclude: Sequence[str] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        remap: Sequence[Remap] = (),
        qos: int | None = None,
        retain: RetainRule = "preserve",
        transform: Transformer | None = None,
    ) -> None:
        if qos is not None and qos not in (0, 1, 2):
            raise PlaygroundError(f"QoS {qos} does not exist.", "write 0, 1 or 2")
        if retain not in ("preserve", "never"):
            raise PlaygroundError(
                f"Retain {retain!r} is not a rule."
                f"{closest(retain, ('preserve', 'never'))}",
                "write 'preserve' or 'never'",
            )
        if start_ns is not None and end_ns is not None and not start_ns < end_ns:
            raise PlaygroundError(
                "The end is not after the start: nothing lies between them.",
                "exchange --start and --end, or leave one out",
            )
        self.recording = recording
        self.qos = qos
        self.never_retain = retain == "never"
        self.transform = transform
        self._topics = tuple(topics)
        # '#' leaves out what begins with '$': that is the broker's own.
        self._included = self._topics or ("#",)
        self._excluded = (*exclude, CONTROL_FILTER)
        TopicFilters(self._included, self._excluded)
        self._remap = tuple(remap)
        self._names: dict[str, str] = {}
        self._check_topics()
        self.end_ns = end_ns
        self.start_ns = self._first(start_ns)

    def _check_topics(self) -> None:
        if not self._topics and not self._remap:
            return
        known = topics_of(self.recording)
        for topic_filter in self._topics:
            if not any(matches(topic_filter, topic) for topic in known):
                raise PlaygroundError(
                    f"Topic filter {topic_filter!r} matches no topic of the "
                    f"recording.{closest(topic_filter, known)}",
                    f"topics: {_some(known)}",
                )
        for rule in self._remap:
            if not any(matches(rule.source, topic) for topic in known):
                raise PlaygroundError(
                    f"Remap '{rule.source}={rule.target}' matches no topic of the "
                    f"recording.{closest(rule.source, known)}",
                    f"topics: {_some(known)}",
                )

    def _first(self, start_ns: int | None) -> int:
        for message in self._read(start_ns, self.end_ns):
            return message.time_ns if start_ns is None else start_ns
        fix = "'playground info' says which topics and which time it covers"
        if start_ns is None and self.end_ns is None:
            raise NotEnoughData("Nothing to play: the recording holds no message.", fix)
        raise PlaygroundError(
            "Nothing to play between the start and the end given.", fix
        )

    def name_of(self, topic: str) -> str:
        """Returns the name under which a topic is played."""
        name = self._names.get(topic)
        if name is None:
            renamed = (rule(topic) for rule in self._remap)
            name = next((new for new in renamed if new is not None), topic)
            self._names[topic] = name
        return name

    def messages(self, from_ns: int | None = None) -> Iterator[Message]:
        """Returns the messages to play, rewritten, in order.

        Args:
            from_ns: First instant; the start of the selection by default.
        """
        start_ns = self.start_ns if from_ns is None else from_ns
        return self._read(start_ns, self.end_ns)

    def _read(self, start_ns: int | None, end_ns: int | None) -> Iterator[Message]:
        messages = self.recording.messages(
            topics=self._included,
            exclude=self._excluded,
            start_ns=start_ns,
            end_ns=end_ns,
            kinds=SAID,
        )
        if (
            self.qos is None
            and not self.never_retain
            and not (self.transform or self._remap)
        ):
            return messages
        rewritten = (self._rewrite(message) for message in messages)
        return (message for message in rewritten if message is not None)

    def _rewrite(self, message: Message) -> Message | None:
        changed = message._replace(
            topic=self.name_of(message.topic),
            qos=message.qos if self.qos is None else self.qos,
            retain=message.retain and not self.never_retain,
        )
        if self.transform is None:
            return changed
        transformed = self.transform(changed)
        if transformed is not None and not isinstance(transformed, Message):
            raise PlaygroundError(
                f"The transformer returned {type(transformed).__name__} for a message "
                f"on {message.topic!r}.",
                "return a Message (message._replace(payload=…)) or None to leave it out",
            )
        return transformed

    def state(self, at_ns: int) -> dict[str, Message]:
        """Returns what is retained just before an instant of the session.

        That is what a broker holds to which everything before ``at_ns`` was
        played, from the beginning of the recording, in order of publication.
        """
        kept: dict[str, Message] = {}
        if self.never_retain and self.transform is None:
            return kept
        for message in self._retained(at_ns):
            if message.payload:
                kept.pop(message.topic, None)
                kept[message.topic] = message
            else:
                kept.pop(message.topic, None)
        return kept

    def _retained(self, at_ns: int) -> Iterator[Message]:
        if self.transform is None:
            kept = last_retained(
                self.recording, at_ns, topics=self._included, exclude=self._excluded
            )
            for message in kept:
                changed = self._rewrite(message)
                assert changed is not None
                yield changed
            return
        # Only the function itself knows what it makes of which message.
        for message in self._read(None, at_ns):
            if message.retain:
                yield message


def topics_of(recording: Recording) -> list[str]:
    """Returns the topics on which a recording has publications, sorted."""
    topics: set[str] = set()
    for table in recording.tables(kinds=SAID, columns=("topic",)):
        topics.update(table.column("topic").unique().to_pylist())
    return sorted(topics)


def _some(topics: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(topics[:limit])
    return shown + (f" and {len(topics) - limit} more" if len(topics) > limit else "")
