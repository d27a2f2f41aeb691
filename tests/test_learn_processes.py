"""Calls in processes: those that take much memory are replaced without a word."""

import subprocess
import sys

GREEDY = """
import time
from joblib import delayed
from playground.learn.processes import side_by_side


def greedy(number):
    # Held from call to call, and long enough for joblib to look.
    vars(time).setdefault("held", []).append(bytearray(b"x") * 330_000_000)
    time.sleep(1.1)
    return number


print(list(side_by_side((delayed(greedy)(k) for k in range(6)), 2)))
"""


def test_a_process_that_took_much_memory_is_replaced_without_a_word():
    done = subprocess.run(
        [sys.executable, "-c", GREEDY], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == str(list(range(6)))
    assert "worker" not in done.stderr, done.stderr
