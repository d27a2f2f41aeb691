"""The bus over a real broker.

`MqttBus` is `playground.bus.Bus` with paho underneath; `BrokerUrl` and `Tls`
say where the broker is and how to get in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playground.mqtt.bus import MqttBus
from playground.mqtt.dialogue import Dialogue
from playground.mqtt.receiver import Receiver
from playground.mqtt.url import PASSWORD_VARIABLE, BrokerUrl, Tls, find_password

if TYPE_CHECKING:
    from playground.mqtt.connection import MqttConnection

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


def __getattr__(name: str) -> Any:
    # paho is imported by whoever connects with it; a sender does without.
    if name == "MqttConnection":
        from playground.mqtt.connection import MqttConnection

        return MqttConnection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
