"""What can go wrong with a broker, said so that a person can mend it."""

from __future__ import annotations

import socket
import ssl

from playground.errors import ConnectionFailed
from playground.mqtt.url import PASSWORD_VARIABLE, BrokerUrl

CONNECT_WITHIN_S = 10.0
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 10.0

RETURN_CODES = {
    1: "Unsupported protocol version",
    2: "Client identifier not valid",
    3: "Server unavailable",
    4: "Bad user name or password",
    5: "Not authorized",
}
"""Of MQTT 3.1.1, table 3.1."""

REASONS = {
    0x00: "Normal disconnection",
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x93: "Receive maximum exceeded",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscriptions not supported",
}
"""Of MQTT 5, table 2.6."""


class VersionRefused(Exception):  # noqa: N818 - never leaves this package
    """The broker may accept us with an older protocol."""


def hung_up(url: BrokerUrl, reason: str) -> ConnectionFailed:
    """The broker closed the connection during the handshake."""
    if "EOF" in reason:
        reason = "it hung up"  # in OpenSSL's words: a violation of protocol
    return ConnectionFailed(
        f"{url} accepted the connection and closed it before the MQTT handshake was "
        f"over ({reason}).",
        _hint_of_scheme(url)
        or "is it an MQTT broker? If it asks for a certificate: --cert FILE --key FILE",
    )


def no_answer(url: BrokerUrl) -> ConnectionFailed:
    """Something listens there, but does not speak MQTT."""
    return ConnectionFailed(
        f"{url} accepts connections but does not answer as an MQTT broker "
        f"(waited {CONNECT_WITHIN_S:g} s).",
        _hint_of_scheme(url) or "is it the right port?",
    )


def no_reply(url: BrokerUrl, client_id: str, verb: str) -> ConnectionFailed:
    """A SUBSCRIBE or UNSUBSCRIBE was not answered."""
    return ConnectionFailed(
        f"{url} does not answer the wish of {client_id!r} to {verb}.",
        "is the broker overloaded, or the connection lost?",
    )


def subscription_refused(
    url: BrokerUrl, topic_filter: str, reason: str
) -> ConnectionFailed:
    """SUBACK says no."""
    return ConnectionFailed(
        f"{url} refuses the subscription to {topic_filter!r}: {reason}.",
        "may this user read these topics? See the broker's access rules",
    )


def refused(url: BrokerUrl, reason: str, *, has_password: bool) -> ConnectionFailed:
    """CONNACK says no."""
    if url.user is None:
        fix = (
            f"name a user ({url.scheme}://USER@{url.host}) and put the password into "
            f"{PASSWORD_VARIABLE} or a file (--password-file)"
        )
    elif not has_password:
        fix = f"put the password of {url.user!r} into {PASSWORD_VARIABLE} or a file"
    else:
        fix = f"check the password of {url.user!r}, and what the broker allows it"
    return ConnectionFailed(f"{url} refuses the login: {reason}.", fix)


def unreachable(url: BrokerUrl, error: Exception) -> ConnectionFailed:
    """There is no connection to begin with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message or "it does not verify"
        return ConnectionFailed(
            f"The certificate of {url} is not accepted: {said}.",
            "name the authority that signed it (--ca FILE); if it has expired, "
            "renew it; if the host's name differs, write the name it was made for",
        )
    if isinstance(error, ssl.SSLError):
        return ConnectionFailed(
            f"{url} does not begin an encrypted connection "
            f"({error.reason or error.strerror or error}).",
            "is it an encrypted port? write mqtt:// (or ws://) for a plain one",
        )
    # By its name: paho need not be imported to fail without it.
    if type(error).__name__ == "WebsocketConnectionError":
        return ConnectionFailed(
            f"{url} does not answer as a WebSocket server: {error}.",
            f"is {url.path!r} its path, and is it the WebSocket port?",
        )
    if isinstance(error, socket.gaierror):
        return ConnectionFailed(
            f"The host {url.host!r} of the broker is not known.",
            "check the name, or write its address",
        )
    if isinstance(error, TimeoutError):
        return ConnectionFailed(
            f"{url} cannot be reached (waited {CONNECT_WITHIN_S:g} s).",
            "is the address right, is the machine on, does a firewall stand between?",
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailed(
            f"Nobody listens at {url}.",
            "start the broker (for instance: playground broker), or correct the port",
        )
    if isinstance(error, ConnectionResetError) and url.is_tls:
        return ConnectionFailed(
            f"{url} hangs up when an encrypted connection is begun.",
            "is it an encrypted port? write mqtt:// (or ws://) for a plain one",
        )
    said = getattr(error, "strerror", None) or str(error)
    return ConnectionFailed(
        f"{url} cannot be reached: {said}.", "check host, port and network"
    )


def _hint_of_scheme(url: BrokerUrl) -> str:
    if url.port in (8883, 8884) and not url.is_tls:
        return f"port {url.port} is usually encrypted: write mqtts://{url.host}"
    if url.port in (80, 8080, 9001, 8083) and not url.is_websocket:
        return f"port {url.port} usually speaks WebSocket: ws://{url.host}:{url.port}"
    return ""
