import time

import framework
import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect("broker")
task = framework.Task(3)
while True:
    client.loop(timeout=0.5)
    if task.due():
        client.publish("uptime", f"{framework.DAY} {framework.uptime():.1f}")
    time.sleep(0.1)
