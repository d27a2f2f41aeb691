"""Main thread and network thread hand work to and fro while the loop idles."""

import threading
import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="idle")
client.on_log = lambda c, u, level, text: "PING" in text and print(text)
client.connect("broker", keepalive=7)
client.loop_start()
time.sleep(3.3)
client.publish("said", "first", qos=1)
time.sleep(20)
client.loop_stop()
print("stopped")
client.loop_start()
threading.Timer(2.25, client.publish, ("said", "last")).start()
time.sleep(30)
