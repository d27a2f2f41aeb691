import queue
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.clock import (
    Phase,
    RealtimeClock,
    VirtualClock,
    WallClock,
    from_iso,
    iso,
)


def test_periodic_work_happens_at_exact_multiples_and_does_not_drift():
    clock, seen = VirtualClock(), []
    clock.every(0.1, lambda: seen.append(clock.now))
    clock.run(until=1000)
    assert seen == [k * 0.1 for k in range(10_000)]


def test_an_offset_moves_the_first_and_all_following():
    clock, seen = VirtualClock(), []
    clock.every(5.015, lambda: seen.append(clock.now), offset_s=0.5015)
    clock.run(until=20)
    assert seen == [0.5015 + k * 5.015 for k in range(4)]


def test_periodic_work_that_begins_late_keeps_to_its_grid():
    clock, seen = VirtualClock(), []

    def begin():
        clock.every(10, lambda: seen.append(clock.now))

    clock.at(25).callbacks.append(lambda _: begin())
    clock.run(until=51)
    assert seen == [30, 40, 50]


def test_at_one_instant_the_plant_comes_before_the_controller():
    """Whoever was scheduled first, and whatever their periods are."""
    clock, seen = VirtualClock(), []
    clock.every(10, lambda: seen.append("controller"), phase=Phase.CONTROLLER)
    clock.every(1, lambda: seen.append("plant"), phase=Phase.PLANT)
    clock.every(2, lambda: seen.append("say"), phase=Phase.PUBLICATION)
    clock.run(until=21)
    at_ten = seen.index("controller", seen.index("controller") + 1)
    assert seen[at_ten - 2 : at_ten + 1] == ["plant", "say", "controller"]
    assert seen[-3:] == ["plant", "say", "controller"]


def test_two_processes_meet_at_one_instant_however_they_got_there():
    clock, seen = VirtualClock(), []
    clock.every(0.25, lambda: seen.append((clock.now, "a")))
    clock.every(0.75, lambda: seen.append((clock.now, "b")))
    clock.run(until=1000)
    both = [t for t, who in seen if who == "b"]
    assert both == [0.75 * k for k in range(len(both))]
    assert {(t, "a") for t in both} <= set(seen)


def test_the_past_cannot_be_scheduled():
    clock = VirtualClock()
    clock.run(until=5)
    with pytest.raises(ValueError, match="past"):
        clock.at(4)
    with pytest.raises(ValueError, match="above 0"):
        clock.every(0, lambda: None)


def test_messages_are_stamped_in_whole_nanoseconds():
    clock = VirtualClock(start_ns=from_iso("2026-01-23T00:00:00Z"))
    stamps = []
    clock.every(0.1, lambda: stamps.append(clock.time_ns()))
    clock.run(until=86_400)
    assert stamps[-1] - stamps[0] == (len(stamps) - 1) * 100_000_000
    assert iso(stamps[3]) == "2026-01-23T00:00:00.3Z"


def test_the_wall_clock_never_runs_backwards_when_the_machines_is_set_back(monkeypatch):
    clock = WallClock()
    before = clock.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.time_ns() >= before


def test_an_accelerated_wall_clock_counts_faster():
    clock = WallClock(speed=1000)
    before = time.monotonic_ns()
    while time.monotonic_ns() - before < 1_000_000:
        pass
    assert clock.time_ns() - clock.anchor_wall_ns >= 1_000_000_000


def test_a_realtime_clock_never_runs_ahead_of_the_wall_clock():
    clock, seen = RealtimeClock(0, speed=50), []
    begin = time.monotonic()
    clock.every(1, lambda: seen.append((clock.now, time.monotonic() - begin)))
    clock.run(until=5.5)
    assert [now for now, _ in seen] == [0, 1, 2, 3, 4, 5]
    assert all(elapsed >= now / 50 for now, elapsed in seen)
    assert len(clock.lateness_s) >= 6
    assert min(clock.lateness_s) >= 0


def test_a_realtime_clock_says_by_how_much_it_was_late():
    clock = RealtimeClock(0, speed=1000)

    def block():
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass

    clock.at(1).callbacks.append(lambda _: block())
    clock.at(2).callbacks.append(lambda _: None)
    clock.run(until=3)
    assert max(clock.lateness_s) > 0.015


def test_work_from_another_thread_is_done_inside_the_run_at_its_time():
    clock, seen = RealtimeClock(0, speed=100), []
    inside = threading.get_ident()

    def note():
        seen.append((clock.now, threading.get_ident()))
        # What it schedules must not lie in the past.
        clock.at(clock.now).callbacks.append(lambda _: seen.append((clock.now, inside)))

    begun = threading.Event()
    clock.at(0).callbacks.append(lambda _: begun.set())
    other = threading.Thread(target=lambda: begun.wait(5) and clock.inject(note))
    other.start()
    clock.run(until=20)
    other.join()
    assert [who for _, who in seen] == [inside, inside]
    assert 0 <= seen[0][0] == seen[1][0] < 20


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ValueError, match="speed"):
        RealtimeClock(speed=speed)


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_an_instant_survives_being_written_to_the_microsecond(time_ns):
    assert from_iso(iso(time_ns)[:26].rstrip("Z") or "0") // 1000 == time_ns // 1000


def test_an_instant_without_a_zone_is_utc():
    assert from_iso("1970-01-01T00:00:01") == 10**9
    assert from_iso("1970-01-01T01:00:01+01:00") == 10**9


def test_waking_up_late_is_lateness(monkeypatch):
    now = [100.0]

    class Oversleeping:
        """A queue that nobody fills, on a machine that wakes us 20 ms too late."""

        def get_nowait(self):
            raise queue.Empty

        def get(self, timeout):
            now[0] += timeout + 0.02
            raise queue.Empty

    clock = RealtimeClock(0)
    clock._inbox = Oversleeping()
    monkeypatch.setattr("playground.clock.time.monotonic", lambda: now[0])
    for at in (1.0, 2.0, 2.01):
        clock.at(at)
    clock.run(until=clock.at(3.0))
    assert list(clock.lateness_s) == pytest.approx([0.02, 0.02, 0.01, 0.02])


def test_a_clock_skips_to_an_instant_only_if_nobody_comes_before():
    clock = VirtualClock(start_ns=0)
    clock.at(5.0, phase=Phase.PLANT)
    assert clock.skip_to(4 * 10**9, Phase.PLANT)
    assert (clock.now, clock.time_ns()) == (4.0, 4 * 10**9)
    # Of the same instant the lower phase is first; of the same phase who was there.
    assert not clock.skip_to(5 * 10**9, Phase.PLANT)
    assert not clock.skip_to(6 * 10**9, Phase.DISTURBANCE)
    assert clock.now == 4.0
    assert clock.skip_to(5 * 10**9, Phase.DISTURBANCE)


def test_a_clock_that_waits_skips_nothing():
    assert not RealtimeClock(0, speed=1000).skip_to(10**9, Phase.PLANT)


def test_a_wait_of_next_to_nothing_ends():
    # `SimpleQueue.get` waits for ever when its time is up before it has begun to wait.
    clock = RealtimeClock(0, speed=1)
    waits = random.Random(1)

    def tick():
        clock.inject(lambda: None)
        after_s = waits.uniform(5e-6, 3e-5)
        clock.at(clock.now + after_s).callbacks.append(lambda _: tick())

    tick()
    run = threading.Thread(target=clock.run, args=(2.0,), daemon=True)
    run.start()
    run.join(30)
    assert not run.is_alive()
