"""Waits for its network thread in a loop that never waits."""

import paho.mqtt.client as mqtt

ready = []
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="busy")
client.will_set("busy/will", "gone")
client.on_connect = lambda *rest: ready.append(True)
client.connect("broker")


def wait_until_ready():
    while not ready:
        pass


client.loop(0.1)
ready.clear()
wait_until_ready()
