"""Chance in what it says, in when it says it, and in who says it first."""

import random
import threading
import time
import uuid

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"dice-{uuid.uuid4()}")
client.connect("broker")
client.loop_start()


def throw(name):
    while True:
        time.sleep(random.choice([0.5, 1, 1.5]))
        client.publish(f"dice/{name}", random.randint(1, 6), qos=random.randint(0, 2))


for name in {"red", "green", "blue"}:
    threading.Thread(target=throw, args=(name,), daemon=True).start()
threading.Event().wait()
