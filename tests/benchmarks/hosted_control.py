"""One message in each 5 s, one out, and a thread with a timer of its own."""

import json
import threading
import time

import paho.mqtt.client as mqtt

latest = {}


def on_message(client, userdata, message):
    latest.update(json.loads(message.payload))
    client.publish("processed/inlet", latest["2023"] / 10)


def watch():
    while True:
        time.sleep(5)
        if latest.get("2023", 0) > 900:
            client.publish("alarm", "too hot", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda client, *rest: client.subscribe("device/+/registers")
client.on_message = on_message
client.connect("localhost", 1883, keepalive=60)
threading.Thread(target=watch, daemon=True).start()
client.loop_forever()
