"""How long a network loop to which nobody talks will stay silent.

paho's loop wakes up each second to see whether a ping is due. Nobody can notice
that it does, so it sleeps on until it would find something to do, at the instants
at which it would have woken; and there is no need to ask the run each time: the
process promises to be silent until the ping. Both are for the loop alone whose
code is known to do nothing else; they are a matter of speed.
"""

# ruff: noqa: SLF001 - it reads what paho keeps to itself

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from playground.host.clocks import UPTIME_NS
from playground.host.frames import NEVER

_MARGIN_NS = 1_000
"""paho computes with floats."""
_METHODS = ("_loop", "loop_forever", "loop_misc", "_check_keepalive")


@dataclass(frozen=True, slots=True)
class IdleLoop:
    """A network loop that waits in ``select``.

    Attributes:
        client: Of paho.
        socket: On which it waits.
        span: For how long it waits each time, nanoseconds.
    """

    client: Any
    socket: Any
    span: int

    def silent_until(self, wakes: int) -> int:
        """Returns an instant before which it says nothing by itself.

        Args:
            wakes: When it wakes up next.
        """
        client = self.client
        try:
            if (
                client._thread_terminate
                or client._sock is not self.socket
                or client._ping_t
                or client._out_packet
            ):
                return wakes
            if not client._keepalive:
                return NEVER
            last = min(client._last_msg_out, client._last_bytes_received)
        except AttributeError:
            return wakes  # Another version of paho.
        ping = int((last + client._keepalive) * 1e9) - UPTIME_NS - _MARGIN_NS
        return max(wakes, ping)


class IdleLoops:
    """Recognises paho's network loop."""

    def __init__(self) -> None:
        self._loop: CodeType | None = None
        self._forever: CodeType | None = None
        self._plain: dict[type, bool] = {}

    def waiting(self, frame: FrameType, span: int) -> IdleLoop | None:
        """Returns the loop whose select is called, if it is ``loop_forever``.

        Args:
            frame: Which calls select, for nothing but to read.
            span: For how long, nanoseconds.
        """
        code = frame.f_code
        if code is not self._loop and (code.co_name != "_loop" or not self._find()):
            return None
        above = frame.f_back
        if code is not self._loop or above is None or above.f_code is not self._forever:
            return None
        client = frame.f_locals["self"]
        kind = type(client)
        if kind not in self._plain:
            known = sys.modules["paho.mqtt.client"].Client
            self._plain[kind] = all(
                getattr(kind, name, None) is getattr(known, name, None)
                for name in _METHODS
            )
        if not self._plain[kind]:
            return None
        return IdleLoop(client, client._sock, span)

    def _find(self) -> bool:
        module = sys.modules.get("paho.mqtt.client")
        if module is None or self._loop is not None:
            return False
        self._loop = module.Client._loop.__code__
        self._forever = module.Client.loop_forever.__code__
        return True
