"""Spins on the clock instead of sleeping."""

import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="spinning")
client.connect("broker")
client.loop_start()
end = time.time() + 2
while time.time() < end:
    pass
client.publish("spun", "2 s")
time.sleep(1)
