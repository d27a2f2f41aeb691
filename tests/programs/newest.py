"""MQTT 5: properties both ways, a session that expires, a will with a delay."""

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions


def on_connect(client, userdata, flags, reason_code, properties):
    print("connected", reason_code, flags.session_present)
    options = SubscribeOptions(qos=1, noLocal=True)
    client.subscribe("ask/#", options=options)


def on_message(client, userdata, message):
    answer = Properties(PacketTypes.PUBLISH)
    answer.CorrelationData = message.properties.CorrelationData
    answer.UserProperty = ("by", "newest")
    client.publish(
        message.properties.ResponseTopic, message.payload * 2, properties=answer
    )
    client.publish("ask/nobody", "no local")


client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id="newest", protocol=mqtt.MQTTv5
)
client.on_connect = on_connect
client.on_message = on_message
client.connect("broker")
client.loop_forever()
