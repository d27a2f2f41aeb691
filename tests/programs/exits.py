"""Ends from within a callback: sys.exit, os._exit, an exception."""

import os
import sys

import paho.mqtt.client as mqtt


def on_message(client, userdata, message):
    how = message.payload.decode()
    if how == "exit":
        sys.exit(5)
    if how == "at once":
        os._exit(6)
    print("reading", float(how))


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="exits")
client.will_set("exits/will", "gone")
client.on_connect = lambda c, *rest: c.subscribe("how")
client.on_message = on_message
client.connect("broker")
client.loop_forever()
