"""aiomqtt: a control loop, a watcher with a time-out, work in an executor."""

import asyncio
import contextlib
import time

import aiomqtt

latest = {}


def solve(value):
    time.sleep(0.25)
    return value * 2


async def control(client):
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(5)
        if "value" in latest:
            answer = await loop.run_in_executor(None, solve, latest["value"])
            await client.publish("control/out", answer, qos=1)


async def main():
    will = aiomqtt.Will("control/status", "dead")
    async with aiomqtt.Client("broker", identifier="async", will=will) as client:
        await client.subscribe("control/in", qos=1)
        task = asyncio.create_task(control(client))
        try:
            async for message in client.messages:
                latest["value"] = float(message.payload)
                print("got", latest["value"])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await asyncio.Event().wait()
                print("settled")
        finally:
            task.cancel()
            await client.publish("control/status", "stopped")


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
