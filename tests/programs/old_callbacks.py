"""Callbacks of paho 1.x, and a message_callback_add."""

import time

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, rc):
    print("connected with result code", rc)
    client.subscribe([("cmd/#", 0), ("cfg/+", 1)])


def on_subscribe(client, userdata, mid, granted_qos):
    print("granted", granted_qos)


def on_cfg(client, userdata, msg):
    print(f"config {msg.topic} {msg.payload.decode()} q{msg.qos} r{int(msg.retain)}")


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, "old-style")
client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = lambda c, u, msg: print("message", msg.topic, msg.payload.decode())
client.message_callback_add("cfg/+", on_cfg)
client.connect("127.0.0.1")
client.loop_start()
time.sleep(10)
client.loop_stop()
client.disconnect()
print("bye", time.strftime("%H:%M:%S"))
