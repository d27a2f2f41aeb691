"""The callback fills a queue, a worker thread empties it and takes its time."""

import queue
import threading
import time

import paho.mqtt.client as mqtt

jobs = queue.Queue(maxsize=2)


def worker():
    while True:
        job = jobs.get()
        time.sleep(3)
        client.publish("job/done", job)
        jobs.task_done()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda c, *rest: c.subscribe("job/new")
client.on_message = lambda c, u, m: jobs.put(m.payload)
threading.Thread(target=worker, daemon=True).start()
client.connect("broker")
client.loop_forever()
