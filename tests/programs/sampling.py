"""Samples each half second and decides; the broker's port is an argument."""

import sys
import threading

import paho.mqtt.client as mqtt

latest = []
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda c, *rest: c.subscribe("ramp/value", 1)
client.on_message = lambda c, u, m: latest.append(float(m.payload))
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
client.publish("ramp/ready", "1", qos=1)
stop = threading.Event()
while not stop.wait(0.5):
    if latest:
        client.publish("ramp/command", "on" if latest[-1] < 1.5 else "off", qos=1)
