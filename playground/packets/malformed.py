"""Bytes that are not MQTT: what was seen, where, and the clause it breaks."""

from __future__ import annotations

from playground.errors import PlaygroundError

MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_PROTOCOL_VERSION = 0x84
TOPIC_ALIAS_INVALID = 0x94
PACKET_TOO_LARGE = 0x95


class MalformedPacket(PlaygroundError):  # noqa: N818 - the standard's own term
    """The other side sent bytes that break the standard.

    Args:
        problem: What was seen, in which packet, at which byte.
        fix: What the sender should have sent, where that can be said.
        position: Offset of the offending byte since the reader's first byte;
            None where the mistake is not one of bytes (an unknown topic alias).
        clause: The conformance statement (``MQTT-3.3.1-4``) or section of the
            standard that is broken. The numbers are those of 5.0 for a 5.0
            connection and of 3.1.1 for all others; 3.1 numbers nothing.
        reason_code: What an MQTT 5 peer is told in CONNACK or DISCONNECT.
    """

    def __init__(
        self,
        problem: str,
        fix: str = "",
        position: int | None = None,
        clause: str = "",
        reason_code: int = MALFORMED_PACKET,
    ) -> None:
        super().__init__(problem, fix)
        # The arguments, all of them: pickle and SimPy rebuild from these.
        self.args = (problem, fix, position, clause, reason_code)
        self.position = position
        self.clause = clause
        self.reason_code = reason_code


class Violation(Exception):  # noqa: N818 - never leaves this package
    """A broken rule, before the reader has said which packet and which byte.

    Args:
        problem: What was seen and which rule it breaks, without a full stop.
        clause: The conformance statement or section.
        at: Index of the offending byte in the data that is being decoded.
        fix: What the sender should have sent.
        reason_code: See `MalformedPacket`.
    """

    def __init__(
        self,
        problem: str,
        clause: str,
        at: int,
        *,
        fix: str = "",
        reason_code: int = MALFORMED_PACKET,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.clause = clause
        self.at = at
        self.fix = fix
        self.reason_code = reason_code
