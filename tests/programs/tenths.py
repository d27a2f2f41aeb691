"""Wakes at each tenth and looks at what has just been heard."""

import time

import paho.mqtt.client as mqtt

latest = []
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda c, *rest: c.subscribe("tenth")
client.on_message = lambda c, u, m: latest.append(int(m.payload))
client.connect("broker")
client.loop_start()
for tenth in range(1, 100):
    time.sleep(0.1)
    print(tenth, latest[-1] if latest else None)
