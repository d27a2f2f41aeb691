"""signal.alarm, setitimer, sched, a time-out by signal."""

import sched
import signal
import time

begin = time.monotonic()


def say(*words):
    print(*words, round(time.monotonic() - begin, 6))


class TooLateError(Exception):
    pass


def on_alarm(number, frame):
    raise TooLateError


signal.signal(signal.SIGALRM, on_alarm)
signal.alarm(3)
try:
    time.sleep(10)
except TooLateError:
    say("timed out")
rings = []
signal.signal(signal.SIGALRM, lambda *rest: rings.append(time.monotonic() - begin))
signal.setitimer(signal.ITIMER_REAL, 0.5, 0.25)
time.sleep(1.1)  # goes on after each ring
signal.setitimer(signal.ITIMER_REAL, 0)
say("rings", rings)
scheduler = sched.scheduler(time.monotonic, time.sleep)
scheduler.enter(2, 1, say, ("second",))
scheduler.enter(1, 1, say, ("first",))
scheduler.run()
