"""The data types of MQTT on the wire: integers, text, binary data.

MQTT 5.0 section 1.5, MQTT 3.1.1 section 1.5 and 2.2.3. `Fields` reads them,
the functions write them. Nothing here knows a packet.
"""

from __future__ import annotations

from typing import Any

from playground.errors import PlaygroundError
from playground.message import LONGEST_TOPIC as LONGEST_STRING
from playground.packets.malformed import Violation
from playground.packets.packet import MQTT_5

MOST_VARIABLE = 268_435_455
"""The largest variable byte integer, and the largest Remaining Length."""


class Fields:
    """Reads one field after the other of one packet's bytes.

    Args:
        data: Holds the packet, and may hold more before and after it.
        at: Index of the next byte to read.
        end: Index after the packet's last byte.
        version: Protocol level; decides which clause is cited.
    """

    __slots__ = ("at", "data", "end", "version")

    def __init__(self, data: bytes, at: int, end: int, version: int) -> None:
        self.data = data
        self.at = at
        self.end = end
        self.version = version

    def clause(self, older: str, newest: str) -> str:
        """Returns the clause of 3.1.1, or the one of 5.0 in an MQTT 5 packet."""
        return newest if self.version == MQTT_5 else older

    def _take(self, count: int, what: str) -> int:
        begin = self.at
        if begin + count > self.end:
            raise Violation(
                f"{what} needs {count} bytes, but {self.end - begin} are left",
                self.clause("section 2.2.3", "section 2.1.4"),
                begin,
            )
        self.at = begin + count
        return begin

    def integer(self, size: int, what: str) -> int:
        """Reads a big-endian integer of ``size`` bytes."""
        begin = self._take(size, what)
        return int.from_bytes(self.data[begin : begin + size])

    def variable_integer(self, what: str) -> int:
        """Reads a variable byte integer (MQTT 5 only, so always minimal)."""
        begin, value, shift = self.at, 0, 0
        if begin < self.end and self.data[begin] < 0x80:  # nearly always
            self.at = begin + 1
            return self.data[begin]
        while True:
            byte = self.data[self._take(1, what)]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise Violation(
                    f"{what} is longer than 4 bytes", "section 1.5.5", begin
                )
        if byte == 0 and shift:
            raise Violation(
                f"{what} {value} is not written in the fewest bytes",
                "MQTT-1.5.5-1",
                begin,
            )
        return value

    def binary(self, what: str) -> bytes:
        """Reads a two-byte length and as many bytes."""
        begin = self._take(2, what) + 2
        length = self.data[begin - 2] << 8 | self.data[begin - 1]
        self._take(length, what)
        return self.data[begin : begin + length]

    def text(self, what: str) -> str:
        """Reads a UTF-8 encoded string."""
        begin = self.at + 2
        return decoded(self.binary(what), what, begin, self.version)

    def packet_id(self) -> int:
        """Reads a packet identifier, which is never 0."""
        value = self.integer(2, "Packet Identifier")
        if not value:
            raise Violation(
                "Packet Identifier is 0, it must be 1 to 65535",
                self.clause("MQTT-2.3.1-1", "MQTT-2.2.1-3"),
                self.at - 2,
            )
        return value

    def rest(self) -> bytes:
        """Reads all that is left."""
        begin, self.at = self.at, self.end
        return self.data[begin : self.end]


def decoded(raw: bytes, what: str, at: int, version: int) -> str:
    """Decodes the bytes of a UTF-8 encoded string, which begin at ``at``.

    Raises:
        Violation: They are not well-formed UTF-8 (Python refuses surrogates,
            as the standard does), or have a NUL.
    """
    try:
        found = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Violation(
            f"{what} is not well-formed UTF-8 ({error.reason})",
            "MQTT-1.5.4-1" if version == MQTT_5 else "MQTT-1.5.3-1",
            at + error.start,
        ) from None
    if "\0" in found:
        raise Violation(
            f"{what} contains the character U+0000",
            "MQTT-1.5.4-2" if version == MQTT_5 else "MQTT-1.5.3-2",
            at + raw.index(0),
        )
    return found


def variable_integer(value: int) -> bytes:
    """Writes a variable byte integer in the fewest bytes.

    Raises:
        PlaygroundError: It is above 268,435,455.
    """
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value > MOST_VARIABLE:
        raise PlaygroundError(
            f"A packet of {value} bytes does not exist; MQTT allows {MOST_VARIABLE}.",
            "split the payload",
        )
    low = (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80)
    if value < 0x20_0000:
        return bytes((*low, value >> 14))
    return bytes((*low, value >> 14 & 0x7F | 0x80, value >> 21))


def binary(value: Any, what: str) -> bytes:
    """Writes a two-byte length and the bytes.

    Raises:
        PlaygroundError: They are no bytes, or more than 65,535.
    """
    if not isinstance(value, bytes | bytearray | memoryview):
        # The value is not shown: a password may stand here.
        raise PlaygroundError(
            f"{what} is of type {type(value).__name__}; it is bytes.",
            "encode it first",
        )
    raw = bytes(value)
    if len(raw) > LONGEST_STRING:
        raise PlaygroundError(
            f"{what} is {len(raw)} bytes long; MQTT allows {LONGEST_STRING}.",
            "shorten it",
        )
    return len(raw).to_bytes(2) + raw


def text(value: Any, what: str) -> bytes:
    """Writes a UTF-8 encoded string.

    Raises:
        PlaygroundError: It is no text, too long, or has a NUL or a surrogate.
    """
    if not isinstance(value, str):
        raise PlaygroundError(f"{what} is {value!r}; it is text.", "give a str")
    if "\0" in value:
        raise PlaygroundError(
            f"{what} {value!r} contains NUL, which MQTT forbids.", "leave it out"
        )
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PlaygroundError(
            f"{what} {value!r} cannot be written in UTF-8: {error.reason}.",
            "remove the surrogate",
        ) from error
    return binary(raw, what)
