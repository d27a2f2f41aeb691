"""Keep-alive of 10 s and nothing to say."""

import sys
import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="quiet")
client.on_log = lambda c, u, level, text: "PING" in text and print(text)
client.will_set("quiet/will", "gone")
client.connect("broker", keepalive=10)
if "--stall" in sys.argv:
    client.loop_start()
    time.sleep(0.5)
    client.loop_stop()
    time.sleep(100)
else:
    client.loop_forever()
