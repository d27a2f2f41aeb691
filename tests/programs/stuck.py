"""Waits for something that virtual time does not know: a pipe nobody writes to."""

import os
import sys
import threading
import time

end, _ = os.pipe()
begun = threading.Event()


def read_for_ever():
    begun.set()
    if sys.argv[1:] == ["--lock"]:
        # One expression in C, which does not let go of the interpreter.
        return sum(range(10**12))
    return os.read(end, 1)


threading.Thread(target=read_for_ever).start()
begun.wait()
time.sleep(1)
