"""Plain asyncio: subprocess-free streams, gather, signal handlers, threads."""

import asyncio
import signal
import time

stopped = asyncio.Event()


async def serve(reader, writer):
    line = await reader.readline()
    await asyncio.sleep(0.5)
    writer.write(line.upper())
    await writer.drain()
    writer.close()


async def ask(name):
    reader, writer = await asyncio.open_connection("localhost", 8888)
    writer.write(name.encode() + b"\n")
    answer = await reader.read()
    writer.close()
    return answer.decode().strip()


async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(serve, "localhost", 8888)
    begin = time.monotonic()
    print(await asyncio.gather(ask("one"), ask("two")), time.monotonic() - begin)
    naps = [asyncio.to_thread(time.sleep, nap) for nap in (1, 2)]
    await asyncio.gather(*naps)
    print("threads", time.monotonic() - begin)
    loop.call_later(1.5, print, "later")
    server.close()
    await stopped.wait()
    print("stopped")


asyncio.run(main())
