"""MQTT on the wire: bytes in, packets out, and packets to bytes.

Sans-I/O, in the manner of h11: no socket, no clock, no thread, no session.
MQTT 3.1, 3.1.1 and 5.0 (OASIS), both directions, all packets, all properties.
The tap reads a connection with two `PacketReader`; the byte-level session of
the local bus reads with one and answers with `encode`.

* `PacketReader`: feed bytes, iterate over packets.
* `encode`: a packet to bytes.
* `TopicAliases`: MQTT 5 topic aliases back to topics.
* `properties_to_json`, `properties_from_json`: the column ``properties`` of a
  recording; `properties_from_paho`, `properties_into_paho`: paho's object.
* `MalformedPacket`: what the other side did wrong, at which byte, by which
  clause of the standard.

The modules import only `playground.errors` and `playground.message`.
"""

from playground.packets.aliases import TopicAliases
from playground.packets.encoder import encode
from playground.packets.malformed import MalformedPacket
from playground.packets.packet import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from playground.packets.properties import (
    properties_from_json,
    properties_from_paho,
    properties_into_paho,
    properties_to_json,
)
from playground.packets.reader import LARGEST_PACKET, PacketReader

__all__ = [
    "LARGEST_PACKET",
    "MQTT_3_1",
    "MQTT_3_1_1",
    "MQTT_5",
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "MalformedPacket",
    "Packet",
    "PacketReader",
    "PacketType",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "Subscription",
    "TopicAliases",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "encode",
    "properties_from_json",
    "properties_from_paho",
    "properties_into_paho",
    "properties_to_json",
]
