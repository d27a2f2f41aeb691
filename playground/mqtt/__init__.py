"""The bus over a real broker.

`MqttBus` is `playground.bus.Bus` with paho underneath; `BrokerUrl` and `Tls`
say where the broker is and how to get in.
"""

from playground.mqtt.bus import MqttBus
from playground.mqtt.connection import MqttConnection
from playground.mqtt.dialogue import Dialogue
from playground.mqtt.receiver import Receiver
from playground.mqtt.url import PASSWORD_VARIABLE, BrokerUrl, Tls, find_password

__all__ = [
    "PASSWORD_VARIABLE",
    "BrokerUrl",
    "Dialogue",
    "MqttBus",
    "MqttConnection",
    "Receiver",
    "Tls",
    "find_password",
]
