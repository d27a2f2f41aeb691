"""How long a network loop to which nobody talks will stay silent.

paho's loop wakes up each second to see whether a ping is due. Nobody outside
can notice, so there is no need to ask the run each time: the process promises
to be silent until the ping, and goes through these wake-ups, paho's own and
unchanged, when it is next spoken to. The promise is made only for the loop
whose code is known to do nothing else; it is a matter of speed alone.
"""

# ruff: noqa: SLF001 - it reads what paho keeps to itself

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from playground.host.clocks import UPTIME_NS
from playground.host.frames import NEVER

_MARGIN_NS = 1_000
"""paho computes with floats."""
_METHODS = ("_loop", "loop_forever", "loop_misc", "_check_keepalive")


class IdleLoops:
    """Recognises paho's network loop, and knows when it will ping."""

    def __init__(self) -> None:
        self._loop: CodeType | None = None
        self._forever: CodeType | None = None
        self._plain: dict[type, bool] = {}

    def client(self, frame: FrameType) -> Any:
        """Returns the client in whose ``loop_forever`` a select is called, if so."""
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
        return client if self._plain[kind] else None

    def _find(self) -> bool:
        module = sys.modules.get("paho.mqtt.client")
        if module is None or self._loop is not None:
            return False
        self._loop = module.Client._loop.__code__
        self._forever = module.Client.loop_forever.__code__
        return True

    def silent_until(self, client: Any, deadline: int) -> int:
        """Returns an instant before which the loop says nothing by itself.

        Args:
            client: Whose loop waits in select.
            deadline: When it wakes up next.
        """
        try:
            if (
                client._thread_terminate
                or client._sock is None
                or client._ping_t
                or client._out_packet
            ):
                return deadline
            if not client._keepalive:
                return NEVER
            last = min(client._last_msg_out, client._last_bytes_received)
        except AttributeError:
            return deadline  # Another version of paho.
        ping = int((last + client._keepalive) * 1e9) - UPTIME_NS - _MARGIN_NS
        return max(deadline, ping)
