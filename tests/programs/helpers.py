"""publish.single, publish.multiple, subscribe.simple."""

import paho.mqtt.publish as publish
import paho.mqtt.subscribe as subscribe

publish.single("helper/ready", "1", qos=1, hostname="broker")
publish.multiple(
    [("helper/a", "1", 0, False), {"topic": "helper/b", "payload": "2", "qos": 2}],
    hostname="broker",
)
one = subscribe.simple("question", hostname="broker", qos=1)
print(one.topic, one.payload, one.qos)
two, three = subscribe.simple("more/#", msg_count=2, hostname="broker")
publish.single("answer", two.payload + three.payload, hostname="broker")
