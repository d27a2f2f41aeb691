"""Keeps the buffer tank of the lab rig warm: an ordinary program that uses paho.

It knows nothing of the playground; on the rig it is started in the same way.
"""

import json
import time

import paho.mqtt.client as mqtt

SNAPSHOT = "nidaq/cDAQ9189-0/snapshot"
ON_BELOW, OFF_ABOVE = 37.0, 40.0

buffer_temp = None
pump = 0.1


def on_connect(client, userdata, flags, reason_code, properties):
    client.subscribe(SNAPSHOT)


def on_message(client, userdata, message):
    global buffer_temp
    buffer_temp = json.loads(message.payload)["tc_buffer"]


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="keep-warm")
client.on_connect = on_connect
client.on_message = on_message
client.connect("broker.lab.example", 1883)
client.loop_start()

while True:
    if buffer_temp is not None:
        if buffer_temp < ON_BELOW:
            pump = 0.7
        elif buffer_temp > OFF_ABOVE:
            pump = 0.1
        client.publish("vsd1/write", pump)
    time.sleep(5)
