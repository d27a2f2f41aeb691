"""Signals of a program to itself."""

import _thread
import os
import signal
import threading
import time

begin = time.monotonic()
got = []
signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
signal.raise_signal(signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGUSR1)
threading.Timer(1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
signal.pause()
print(len(got), time.monotonic() - begin)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.raise_signal(signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 5)
time.sleep(2)
print(signal.getitimer(signal.ITIMER_REAL)[0], signal.alarm(0), len(got))
threading.Timer(1, _thread.interrupt_main).start()
lock = threading.Lock()
lock.acquire()
try:
    lock.acquire()
except KeyboardInterrupt:
    print("interrupted in a lock at", time.monotonic() - begin)
lock.release()
print(lock.acquire(timeout=1), lock.locked(), signal.getsignal(signal.SIGTERM).name)
try:
    signal.signal(99, print)
except ValueError as error:
    print(error)
signal.raise_signal(signal.SIGTERM)
print("not reached")
