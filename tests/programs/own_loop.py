"""A program with a loop of its own around paho's socket."""

import select
import time

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe("own/loop", qos=2)
    client.publish("own/loop", "x", qos=2)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "own", protocol=mqtt.MQTTv5)
client.on_connect = on_connect
client.on_message = lambda c, u, m: print("heard", m.topic, m.payload, m.qos)
client.on_publish = lambda *_: print("published")
client.connect_async("broker", keepalive=10)
client.reconnect()
end = time.time() + 30
while time.time() < end:
    writing = [client.socket()] if client.want_write() else []
    readable, writable, _ = select.select([client.socket()], writing, [], 1)
    if readable:
        client.loop_read()
    if writable:
        client.loop_write()
    client.loop_misc()
print("done", client.is_connected())
