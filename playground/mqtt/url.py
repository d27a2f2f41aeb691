"""Where a broker is and what it takes to get in. Nothing is connected here."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from playground.errors import PlaygroundError, closest

PASSWORD_VARIABLE = "PLAYGROUND_MQTT_PASSWORD"
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_SYNONYMS = {"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts", "mqtt+tls": "mqtts"}
_EXAMPLE = "write for instance mqtt://192.168.1.10:1883"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUrl:
    """``mqtt://user@host:1883``: everything about a broker but the secrets.

    Attributes:
        scheme: ``mqtt``, ``mqtts``, ``ws`` or ``wss``.
        path: Only for WebSockets; ``/mqtt`` where none is written.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a broker's URL.

        Raises:
            PlaygroundError: It is no such URL, or it has a password in it.
        """
        # A password must not come out in an error text either.
        shown = re.sub(r"(//[^/@]*?):[^/]*@", r"\1:***@", text)
        scheme, separator, _ = text.partition("://")
        if not separator:
            raise PlaygroundError(
                f"Broker {shown!r} has no scheme (mqtt://, mqtts://, ws:// or wss://).",
                f"write mqtt://{shown}" if text else _EXAMPLE,
            )
        scheme = _SYNONYMS.get(scheme.lower(), scheme.lower())
        if scheme not in _DEFAULT_PORTS:
            raise PlaygroundError(
                f"Broker {shown!r}: {scheme!r} is not one of "
                f"{', '.join(_DEFAULT_PORTS)}.{closest(scheme, _DEFAULT_PORTS)}",
                _EXAMPLE,
            )
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise PlaygroundError(
                f"Broker {shown!r}: {_reason(error)}.", _EXAMPLE
            ) from None
        if parts.password is not None:
            user = parts.username or "user"
            raise PlaygroundError(
                f"Broker {shown!r} has a password in it, where the shell's history "
                "and the list of processes would show it.",
                f"write {scheme}://{user}@{parts.hostname} and put the password "
                f"into {PASSWORD_VARIABLE} or a file (--password-file)",
            )
        if not parts.hostname:
            raise PlaygroundError(f"Broker {shown!r} names no host.", _EXAMPLE)
        is_websocket = scheme in ("ws", "wss")
        if (
            parts.query
            or parts.fragment
            or (parts.path.strip("/") and not is_websocket)
        ):
            raise PlaygroundError(
                f"Broker {shown!r}: after the port nothing may follow"
                + (" but a path." if is_websocket else "."),
                "topics are named apart: -t 'plant/#'",
            )
        if port == 0:
            raise PlaygroundError(
                f"Broker {shown!r}: nobody can be reached at port 0.", _EXAMPLE
            )
        path = (
            (parts.path if parts.path.strip("/") else "/mqtt") if is_websocket else ""
        )
        return cls(
            scheme=scheme,
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[scheme],
            user=unquote(parts.username) if parts.username else None,
            path=path,
        )

    @property
    def is_tls(self) -> bool:
        """Says whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        """Says whether MQTT travels in WebSocket frames."""
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}{self.path}"


def _reason(error: ValueError) -> str:
    text = str(error)
    return text[0].lower() + text[1:] if text else "it cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The certificates of an encrypted connection.

    Attributes:
        ca_file: Whom to trust, PEM; by default whom the system trusts.
        certificate_file: Our own certificate, for brokers that ask for one.
        key_file: Its private key; by default in ``certificate_file`` too.
        check_hostname: Whether the broker's certificate must name its host.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Returns what Python's ``ssl`` needs.

        Raises:
            PlaygroundError: A file cannot be read or is no certificate.
        """
        reading = self.ca_file
        try:
            context = ssl.create_default_context(
                cafile=str(self.ca_file) if self.ca_file else None
            )
            context.check_hostname = self.check_hostname
            if self.certificate_file is not None:
                reading = self.certificate_file
                context.load_cert_chain(
                    str(self.certificate_file),
                    str(self.key_file) if self.key_file else None,
                    # Without it OpenSSL would ask on the terminal.
                    password=b"",
                )
            elif self.key_file is not None:
                raise PlaygroundError(
                    f"There is a key ({str(self.key_file)!r}) but no certificate.",
                    "name the certificate as well (--cert)",
                )
        except (OSError, ValueError) as error:
            raise PlaygroundError(
                f"{str(reading)!r} cannot be used as a certificate: {_why(error)}.",
                "name a PEM file (--ca, --cert, --key); a key with a passphrase must "
                "be decrypted first",
            ) from error
        return context


def find_password(
    password_file: Path | None = None, environment: Mapping[str, str] | None = None
) -> str | None:
    """Returns the password from a file, else from ``PLAYGROUND_MQTT_PASSWORD``.

    Args:
        password_file: Its first line is the password.
        environment: Where to look for the variable, by default ``os.environ``.

    Raises:
        PlaygroundError: The file cannot be read, or is empty.
    """
    if password_file is None:
        found = os.environ if environment is None else environment
        return found.get(PASSWORD_VARIABLE)
    try:
        first_line = password_file.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        # A decoder's text would show what stands there.
        why = _why(error) if isinstance(error, OSError) else "it is no UTF-8"
        raise PlaygroundError(
            f"The password file {str(password_file)!r} cannot be read: {why}.",
            "check its name and its permissions",
        ) from error
    if not first_line:
        raise PlaygroundError(
            f"The password file {str(password_file)!r} begins with an empty line.",
            "write the password into its first line",
        )
    return first_line


def _why(error: Exception) -> str:
    """OpenSSL's reason, else the system's, else what it says."""
    for name in ("reason", "strerror"):
        if said := getattr(error, name, None):
            return str(said)
    return str(error)
