"""Every way in which threads wait for each other."""

import concurrent.futures
import queue
import threading
import time

begin = time.monotonic()


def say(*words):
    print(*words, "at", round(time.monotonic() - begin, 6))


lock = threading.Lock()
lock.acquire()
say("lock", lock.acquire(timeout=1.5), lock.acquire(blocking=False))
threading.Timer(0.5, lock.release).start()
say("lock", lock.acquire(timeout=1.5))

again = threading.RLock()
with again, again:
    thread = threading.Thread(target=lambda: say("rlock", again.acquire(timeout=1)))
    thread.start()
    thread.join()

condition = threading.Condition()
items = []


def produce():
    for item in range(3):
        time.sleep(1)
        with condition:
            items.append(item)
            condition.notify()


threading.Thread(target=produce).start()
with condition:
    say("condition", condition.wait_for(lambda: len(items) == 2, timeout=10))
    say("condition", condition.wait(timeout=0.25))

semaphore = threading.BoundedSemaphore(2)


def hold(name):
    with semaphore:
        time.sleep(1)
        say("semaphore", name)


for name in "abc":
    threading.Thread(target=hold, args=name).start()
time.sleep(3)

barrier = threading.Barrier(3)


def meet(delay):
    time.sleep(delay)
    barrier.wait()
    say("barrier", delay)


meeting = [threading.Thread(target=meet, args=(delay,)) for delay in (1, 2, 3)]
for thread in meeting:
    thread.start()
meeting[0].join(timeout=1.5)
say("alive", meeting[0].is_alive())
for thread in meeting:
    thread.join()

simple = queue.SimpleQueue()
threading.Timer(1, simple.put, ("x",)).start()
say("simple queue", simple.get(timeout=5))
try:
    queue.PriorityQueue().get(timeout=2)
except queue.Empty:
    say("empty")

with concurrent.futures.ThreadPoolExecutor(2) as pool:
    naps = list(pool.map(lambda nap: time.sleep(nap) or nap, [2, 1, 1]))
say("pool", naps)
say("threads", threading.active_count(), threading.current_thread().name)
