"""Reconnects with a growing delay; publishes while the broker is away."""

import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="reconnecting")
client.reconnect_delay_set(min_delay=1, max_delay=8)
client.on_connect = lambda c, u, f, reason, p: print("connected", reason)
client.on_disconnect = lambda c, u, f, reason, p: print("disconnected", reason)
client.on_connect_fail = lambda c, u: print("failed")
client.connect("broker")
client.loop_start()
time.sleep(10)
info = client.publish("late", "x", qos=1)
print("published", mqtt.error_string(info.rc))
while True:
    time.sleep(10)
