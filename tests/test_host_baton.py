"""Time in a hosted program's process, and the frames it exchanges."""

import os
from collections.abc import Iterator

import pytest

from playground.host.baton import SPIN_NS, SPINS, Baton
from playground.host.frames import ARRIVED, NEVER, SENT, Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, two = os.pipe(), os.pipe()
    first, second = Channel(one[0], two[1]), Channel(two[0], one[1])
    yield first, second
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("seconds", "span_ns"),
    [
        (1.1, 1_100_000_000),
        (0.1 + 0.2, 300_000_000),
        (4.35, 4_350_000_000),
        (86_400.7, 86_400_700_000_000),
        (1e-9, 1),
        (1.4e-9, 2),
        (0.0, 0),
        (-1.0, 0),
    ],
)
def test_a_wait_is_never_too_short_and_not_longer_by_a_rounding_error(
    seconds: float, span_ns: int
) -> None:
    assert Baton().after(seconds) == span_ns


def test_waits_of_no_length_cost_something_in_the_end() -> None:
    baton = Baton()
    assert {baton.after(0.0) for _ in range(SPINS)} == {0}
    assert baton.after(0.0) == SPIN_NS


def test_an_instant_beyond_all_time_is_no_overflow() -> None:
    assert Baton().after(1e12) == NEVER - 1


def test_frames_arrive_as_they_were_sent(ends: tuple[Channel, Channel]) -> None:
    first, second = ends
    frames = [
        (0, NEVER, []),
        (5, 7, [(ARRIVED, 1003, b"bytes"), (SENT, 2**40, b"")]),
        (-1, 0, [(ARRIVED, 1, bytes(range(256)) * 100)]),
    ]
    for frame in frames:
        first.send(*frame)
        assert second.receive(5.0) == frame
    for frame in frames[:2]:
        second.send(*frame)
    assert [first.receive(), first.receive()] == frames[:2]


def test_silence_and_the_end_are_told_apart(ends: tuple[Channel, Channel]) -> None:
    first, _ = ends
    with pytest.raises(TimeoutError):
        first.receive(0.01)
    only, other = os.pipe()
    os.close(other)
    broken = Channel(only, os.dup(only))
    with pytest.raises(EOFError):
        broken.receive(5.0)
    broken.close()
