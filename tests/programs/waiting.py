"""Waits for an acknowledgement that nobody reads: there is no network loop."""

import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="waiting")
client.connect("broker")
while not client.is_connected():
    client.loop()
info = client.publish("unread", "x", qos=1)
begin = time.monotonic()
info.wait_for_publish(timeout=5)
print(f"waited {time.monotonic() - begin} s, published: {info.is_published()}")
