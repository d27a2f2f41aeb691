"""A global client, a loop in the background, `while True: sleep(1)` in front."""

import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="counter")
client.connect("localhost", 1883, 60)
client.loop_start()
count = 0
while True:
    client.publish("counter/value", count)
    count += 1
    time.sleep(1)
