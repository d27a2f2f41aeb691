"""Commands to a replay that is under way, also as MQTT messages.

======================== =========================================
topic                    payload
======================== =========================================
playground/replay/pause  –
playground/replay/resume –
playground/replay/step   –
playground/replay/stop   –
playground/replay/seek   seconds since the start; ``+10``, ``-10`` from here
playground/replay/speed  a number, ``max``, or ``*2`` for a factor
playground/replay/get    –
======================== =========================================

Every command is answered by a JSON message on ``playground/replay/status``.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from playground.message import Message

logger = logging.getLogger(__name__)

CONTROL_PREFIX = "playground/replay/"
"""Topics a replayer obeys; it never plays them, or it would obey itself."""
CONTROL_FILTER = CONTROL_PREFIX + "+"
STATUS_TOPIC = CONTROL_PREFIX + "status"

Verb = Literal["pause", "resume", "step", "stop", "seek", "speed", "get"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a replayer is told.

    Attributes:
        verb: What to do.
        number: Seconds (``seek``) or speed (``speed``).
        relative: The number is meant from the present position, or is a factor
            on the present speed.
    """

    verb: Verb
    number: float = 0.0
    relative: bool = False


def parse_speed(text: str) -> float:
    """Reads a speed: a number above 0, or ``max``.

    Raises:
        ValueError: It is neither.
    """
    speed = math.inf if text.strip().lower() == "max" else float(text)
    if not speed > 0:
        raise ValueError(f"{text!r} is not above 0")
    return speed


def obey(message: Message) -> Command | None:
    """Reads a command out of a message; None if it is none.

    Retained messages are no commands: they were meant for an earlier replay.
    """
    verb: Any = message.topic.removeprefix(CONTROL_PREFIX)
    if message.retain or verb not in get_args(Verb):
        return None
    text = message.payload.decode("utf-8", "replace").strip()
    try:
        if verb == "seek":
            number = float(text)
            if not math.isfinite(number):
                raise ValueError(f"{text!r} is no place")
            return Command(verb="seek", number=number, relative=text[:1] in ("+", "-"))
        if verb == "speed":
            return Command(
                verb="speed",
                number=parse_speed(text.removeprefix("*")),
                relative=text[:1] == "*",
            )
    except ValueError as error:
        logger.warning("%s: ignored: %s", message.topic, error)
        return Command(verb="get")
    return Command(verb=verb)


def number_or_word(speed: float) -> float | str:
    """Renders a speed for JSON, which has no infinity."""
    return "max" if speed == math.inf else speed


def status_payload(fields: dict[str, Any]) -> bytes:
    """Renders a status as JSON."""
    return json.dumps(fields, separators=(",", ":")).encode()
