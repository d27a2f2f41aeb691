"""What else looks at the clock, or waits, in the standard library."""

# ruff: noqa: DTZ002, DTZ003, DTZ005, UP041

import asyncio
import concurrent.futures
import datetime
import email.utils
import logging
import queue
import select
import selectors
import signal
import socket
import sys
import threading
import time

BEGIN = time.monotonic()


def say(*words):
    print(*words, "@", round(time.monotonic() - BEGIN, 6))


now = datetime.datetime.now()
say(datetime.datetime.utcnow() == now == datetime.datetime.today(), now)
say(
    time.time_ns() / 1e9 - time.time(),
    time.monotonic_ns() / 1e9 - time.monotonic(),
    time.perf_counter_ns() / 1e9 - time.perf_counter(),
    time.clock_gettime_ns(time.CLOCK_MONOTONIC) - time.monotonic_ns(),
)

# -- descriptors
select.select([], [], [], 2)
say("select")
near, far = socket.socketpair()
selector = selectors.DefaultSelector()
selector.register(near, selectors.EVENT_READ)
say("selector", selector.select(1.5))
threading.Timer(1, far.send, (b"x",)).start()
say("selector", len(selector.select(5)), near.recv(1))
poll = select.poll()
poll.register(near, select.POLLIN)
say("poll", poll.poll(500))
if hasattr(select, "epoll"):
    epoll = select.epoll()
    epoll.register(near.fileno(), select.EPOLLIN)
    say("epoll", epoll.poll(0.5))
else:
    time.sleep(0.5)
    say("epoll []")

# -- threads
event = threading.Event()
say("event", event.wait(3))
threading.Timer(1, event.set).start()
say("event", event.wait())
full = queue.LifoQueue(1)
full.put(1)
try:
    full.put(2, timeout=2)
except queue.Full:
    say("full")
threading.Timer(1, full.get).start()
full.put(3, timeout=5)
say("put")
never = threading.Timer(1, say, ("never",))
never.start()
never.cancel()
time.sleep(2)
say("semaphore", threading.Semaphore(0).acquire(timeout=1))
try:
    threading.Barrier(2, timeout=2).wait()
except threading.BrokenBarrierError:
    say("broken")
with concurrent.futures.ThreadPoolExecutor() as pool:
    naps = [pool.submit(time.sleep, nap) for nap in (1, 4)]
    done, rest = concurrent.futures.wait(naps, timeout=2)
    say("wait", len(done), len(rest))
say("pool")


async def main():
    await asyncio.sleep(1)
    say("asyncio")
    try:
        await asyncio.wait_for(asyncio.sleep(10), 2)
    except asyncio.TimeoutError:
        say("timeout")
    inbox = asyncio.Queue()
    asyncio.get_running_loop().call_later(3, inbox.put_nowait, "later")
    say(await inbox.get())
    await asyncio.gather(*(asyncio.to_thread(time.sleep, nap) for nap in (1, 2, 3)))
    say("gathered")
    try:
        async with asyncio.timeout(1):
            await asyncio.Event().wait()
    except TimeoutError:
        say("timeout")


asyncio.run(main())

# -- signals
rings = []
signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic() - BEGIN))
signal.alarm(1)
signal.pause()
say("pause", rings)
say("sigtimedwait", signal.sigtimedwait([signal.SIGUSR1], 1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])
signal.alarm(1)
say("sigwait", signal.sigwait([signal.SIGALRM]).name, len(rings))
signal.raise_signal(signal.SIGALRM)
say("pending", [each.name for each in signal.sigpending()], len(rings))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
say("unblocked", [each.name for each in signal.sigpending()], len(rings))

# -- words
logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s")
logging.getLogger("any").warning("logged")
say(email.utils.formatdate(), time.strftime("%F %T"))

# -- the end of a service
say("ended by", signal.sigwaitinfo([signal.SIGINT, signal.SIGTERM]).si_signo.real)
