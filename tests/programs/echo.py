"""Answers each message at once: two of these never come to rest."""

import sys

import paho.mqtt.client as mqtt

hears, says = sys.argv[1:]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda c, *rest: c.subscribe(hears)
client.on_message = lambda c, u, m: c.publish(says, m.payload)
client.connect("broker")
client.loop_forever()
