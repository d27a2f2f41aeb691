"""QoS 0, 1 and 2 out; whatever the plant sends in."""

import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="qos")
client.on_connect = lambda c, *rest: c.subscribe("in/#", 2)
client.on_message = lambda c, u, m: print("in", m.payload.decode(), m.qos)
client.on_publish = lambda c, u, mid, reason, properties: print("out", mid, reason)
client.connect("broker")
client.loop_start()
for qos in (0, 1, 2):
    info = client.publish(f"out/{qos}", str(qos), qos=qos)
    info.wait_for_publish(timeout=1)
    print("published", qos, info.is_published())
time.sleep(30)
client.disconnect()
