"""How fast the packet codec is, as ratios measured in one run.

The baseline of decoding is the least that Python can do: a loop that finds
where each packet, its topic and its payload end, slices them, and checks
nothing.

    pytest tests/benchmarks/test_bench_packets.py -s
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from playground.packets import PacketReader, Publish, encode

MESSAGES = 20_000
RECEIVED = 65_536
ROUNDS = 5


def messages(version: int, *, with_properties: bool = False) -> list[Publish]:
    properties = (
        {"content_type": "application/json", "user_property": [("site", "lab")]}
        if with_properties
        else {}
    )
    assert version == 5 or not with_properties
    return [
        Publish(f"plant/{number % 50}/state", bytes(200), properties=properties)
        for number in range(MESSAGES)
    ]


def stream(version: int, *, with_properties: bool = False) -> list[bytes]:
    sent = messages(version, with_properties=with_properties)
    data = b"".join(encode(packet, version) for packet in sent)
    return [data[at : at + RECEIVED] for at in range(0, len(data), RECEIVED)]


def fastest(work: Callable[[], int]) -> float:
    """Returns how many per second in the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        count = work()
        best = max(best, count / (time.perf_counter() - begin))
    return best


def bare_loop(pieces: list[bytes]) -> int:
    count, data = 0, b""
    for piece in pieces:
        data = data + piece
        at, size = 0, len(data)
        while at + 5 <= size:
            length, body = data[at + 1], at + 2
            if length > 127:
                length, body = (length & 127) + (data[at + 2] << 7), at + 3
            end = body + length
            if end > size:
                break
            topic_end = body + 2 + (data[body] << 8 | data[body + 1])
            topic, payload = data[body + 2 : topic_end], data[topic_end:end]
            count += len(topic) > 0 and len(payload) > 0
            at = end
        data = data[at:]
    return count


def decode(version: int, pieces: list[bytes]) -> int:
    reader, count = PacketReader(version), 0
    for piece in pieces:
        reader.feed(piece)
        for _ in reader:
            count += 1
    return count


@pytest.mark.parametrize(
    ("version", "with_properties", "least"),
    [(4, False, 0.2), (5, False, 0.2), (5, True, 0.05)],
    ids=["3.1.1", "5.0", "5.0 with two properties"],
)
def test_decoding_publish(version: int, with_properties: bool, least: float) -> None:
    pieces = stream(version, with_properties=with_properties)
    assert bare_loop(pieces) == decode(version, pieces) == MESSAGES
    bare = fastest(lambda: bare_loop(pieces))
    rate = fastest(lambda: decode(version, pieces))
    print(
        f"\ndecode PUBLISH, MQTT level {version}, properties: {with_properties}: "
        f"{rate:,.0f}/s = {rate / bare:.2f} × a bare slicing loop ({bare:,.0f}/s)"
    )
    assert rate > least * bare


def test_encoding_publish() -> None:
    sent = messages(4)

    def bare() -> int:
        total = 0
        for packet in sent:
            topic = packet.topic.encode()
            body = len(topic).to_bytes(2) + topic + packet.payload
            length = bytes((len(body) & 127 | 128, len(body) >> 7))
            total += len(b"0" + length + body) > 0
        return total

    def ours() -> int:
        return sum(len(encode(packet, 4)) > 0 for packet in sent)

    base, rate = fastest(bare), fastest(ours)
    print(
        f"\nencode PUBLISH: {rate:,.0f}/s = {rate / base:.2f} × "
        f"joining the parts by hand ({base:,.0f}/s)"
    )
    assert rate > 0.3 * base


@pytest.mark.parametrize("piece", [1, 1_000])
def test_cost_of_a_byte_does_not_grow_with_the_packet(piece: int) -> None:
    sizes = {1: (30_000, 300_000), 1_000: (10_000_000, 100_000_000)}[piece]

    def seconds_per_byte(size: int) -> float:
        data = memoryview(encode(Publish("big", bytes(size)), 4))
        reader = PacketReader(4)
        begin = time.perf_counter()
        for at in range(0, len(data), piece):
            reader.feed(data[at : at + piece])
            found = list(reader)
        elapsed = time.perf_counter() - begin
        assert len(found) == 1
        return elapsed / size

    small, large = (min(seconds_per_byte(size) for _ in range(2)) for size in sizes)
    print(
        f"\none packet of {sizes[1]:,} bytes in pieces of {piece}: "
        f"{large * 1e9:.2f} ns/byte = {large / small:.2f} × one of {sizes[0]:,} bytes"
    )
    # Quadratic cost would show as a factor of ten.
    assert large < 4 * small


def test_cost_of_a_packet_does_not_grow_with_how_much_was_fed_at_once() -> None:
    pieces = stream(4)
    whole = b"".join(pieces) * 5
    in_pieces = fastest(lambda: decode(4, pieces))
    at_once = fastest(lambda: decode(4, [whole]))
    print(
        f"\n{5 * MESSAGES:,} packets fed at once: {at_once:,.0f}/s = "
        f"{at_once / in_pieces:.2f} × fed in pieces of {RECEIVED} ({in_pieces:,.0f}/s)"
    )
    assert at_once > 0.3 * in_pieces
