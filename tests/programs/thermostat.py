"""loop_forever in front; the callback answers each reading at once."""

import json
import sys

import paho.mqtt.client as mqtt

setpoint = float(sys.argv[1]) if len(sys.argv) > 1 else 21.0


def on_connect(client, userdata, flags, reason_code, properties):
    print("connected:", reason_code)
    client.subscribe("room/temperature", qos=1)


def on_message(client, userdata, message):
    reading = json.loads(message.payload)
    client.publish("heater/on", "1" if reading["value"] < setpoint else "0", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="thermostat")
client.on_connect = on_connect
client.on_message = on_message
client.will_set("thermostat/status", "dead", qos=1, retain=True)
client.connect("plant-broker.example", 1883)
client.loop_forever()
