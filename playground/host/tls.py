"""TLS that is accepted and not in force: there is nobody to hide from.

A program keeps its certificates and ciphers; those of the real plant need not
be on this machine.
"""

# The signatures are those of the functions that are replaced.
# ruff: noqa: FBT001, FBT002

from __future__ import annotations

import ssl
from typing import Any

from playground.host.allowance import Allowance


class TlsSocket:
    """What ``SSLContext.wrap_socket`` returns: the same socket, not encrypted."""

    def __init__(self, plain: Any, server_hostname: str | None) -> None:
        self._plain = plain
        self.server_hostname = server_hostname

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def __enter__(self) -> TlsSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._plain.close()

    def do_handshake(self, block: bool = False) -> None:
        """Has nothing to agree on."""

    def pending(self) -> int:
        """Returns the bytes that `recv` has at hand."""
        return len(getattr(self._plain, "incoming", b""))

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        """Reads like ``recv``."""
        return self.recv(size) if buffer is None else self.recv_into(buffer, size)

    def write(self, data: Any) -> int:
        """Writes like ``send``."""
        sent: int = self._plain.send(data)
        return sent

    def unwrap(self) -> Any:
        """Returns the plain socket."""
        return self._plain

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Returns an empty certificate."""
        return b"" if binary_form else {}

    def version(self) -> str:
        """Returns what a broker of today would have agreed to."""
        return "TLSv1.3"

    def cipher(self) -> None:
        """Returns None: nothing is encrypted."""

    def selected_alpn_protocol(self) -> None:
        """Returns None: nothing was agreed."""


def install(allowance: Allowance) -> None:
    """Accepts TLS settings, and says once that they are not in force."""
    context = ssl.SSLContext
    told: list[bool] = []

    def wrap_socket(
        self: Any, sock: Any, *_: Any, server_hostname: str | None = None, **__: Any
    ) -> TlsSocket:
        if not told:
            told.append(True)
            allowance.note(
                "TLS is accepted and not in force: nothing is encrypted, no "
                "certificate is checked."
            )
        return TlsSocket(sock, server_hostname)

    def accept_it(*_: Any, **__: Any) -> None:
        """Certificates, keys and ciphers of the real plant need not be here."""

    context.wrap_socket = wrap_socket  # type: ignore[method-assign,assignment]
    for name in (
        "load_cert_chain",
        "load_default_certs",
        "load_dh_params",
        "load_verify_locations",
        "set_ciphers",
    ):
        setattr(context, name, accept_it)
