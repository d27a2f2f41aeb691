"""Topic aliases of one direction of one MQTT 5 connection."""

from __future__ import annotations

from playground.packets.malformed import (
    PROTOCOL_ERROR,
    TOPIC_ALIAS_INVALID,
    MalformedPacket,
)
from playground.packets.packet import Publish


class TopicAliases:
    """Remembers what the sender's topic aliases stand for.

    A mapping lives as long as its network connection [MQTT-3.3.2-7] and each
    direction has its own, so make two for each connection.

    Args:
        maximum: The Topic Alias Maximum that the receiving side announced.
    """

    def __init__(self, *, maximum: int = 0xFFFF) -> None:
        self.maximum = maximum
        self._topics: dict[int, str] = {}

    def resolve(self, publish: Publish) -> Publish:
        """Returns the message with its full topic and without the alias.

        Raises:
            MalformedPacket: The alias is above the maximum, or has no topic yet.
        """
        alias = publish.properties.get("topic_alias")
        if alias is None:
            return publish
        if alias > self.maximum:
            raise MalformedPacket(
                f"PUBLISH: topic alias {alias} is above the announced maximum of "
                f"{self.maximum} [MQTT-3.3.2-9].",
                "announce a larger topic_alias_maximum or send the topic",
                None,
                "MQTT-3.3.2-9",
                TOPIC_ALIAS_INVALID,
            )
        topic = publish.topic
        if topic:
            self._topics[alias] = topic
        else:
            known = self._topics.get(alias)
            if known is None:
                raise MalformedPacket(
                    f"PUBLISH: topic alias {alias} was never given a topic on this "
                    "connection [section 3.3.4].",
                    "send the topic with the alias the first time",
                    None,
                    "section 3.3.4",
                    PROTOCOL_ERROR,
                )
            topic = known
        properties = {k: v for k, v in publish.properties.items() if k != "topic_alias"}
        return publish._replace(topic=topic, properties=properties)
