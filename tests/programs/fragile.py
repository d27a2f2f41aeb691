"""An exception kills the network thread; the main thread never notices."""

import time

import paho.mqtt.client as mqtt


def on_message(client, userdata, message):
    value = float(message.payload)
    client.publish("half", value / 2)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="fragile")
client.on_connect = lambda c, *rest: c.subscribe("value")
client.on_message = on_message
client.connect("broker")
client.loop_start()
while True:
    time.sleep(1)
