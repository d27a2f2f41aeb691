"""The two kinds of byte stream under the embedded broker: TCP and WebSocket.

No MQTT is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

HIGH_WATER = 4 * 2**20
"""Bytes waiting for a slow reader above which `drain` waits."""
_CHUNK = 2**16


class TcpStream:
    """A TCP (or TLS) connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=HIGH_WATER)

    async def chunk(self) -> bytes:
        """Returns what has arrived, at least a byte; empty at the end."""
        try:
            return await self._reader.read(_CHUNK)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Sends without waiting."""
        if not self._writer.transport.is_closing():
            self._writer.write(data)

    @property
    def backlog(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Waits until the backlog is well below `HIGH_WATER`."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def close(self) -> None:
        """Sends what is waiting and closes, without waiting for the peer."""
        self._writer.close()

    def abort(self) -> None:
        """Closes at once; what is waiting is lost."""
        self._writer.transport.abort()


class WebSocketStream:
    """A WebSocket connection; its frames are one stream of bytes [MQTT-6.0.0-3]."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._waiting: deque[bytes] = deque()
        self.backlog = 0
        self._sending: asyncio.Task[None] | None = None

    async def chunk(self) -> bytes:
        """Returns what has arrived, at least a byte; empty at the end."""
        while True:
            try:
                frame = await self._connection.recv()
            except (ConnectionClosed, OSError):
                return b""
            if isinstance(frame, str):
                # MQTT travels in binary frames only [MQTT-6.0.0-1].
                await self._connection.close(1003)
                return b""
            if frame:
                return bytes(frame)

    def write(self, data: bytes) -> None:
        """Sends without waiting."""
        self._waiting.append(data)
        self.backlog += len(data)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while self._waiting:
                data = b"".join(self._waiting)
                self._waiting.clear()
                await self._connection.send(data)
                self.backlog -= len(data)
        self._waiting.clear()
        self.backlog = 0

    async def drain(self) -> None:
        """Waits until everything is sent."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending])

    async def close(self) -> None:
        """Sends what is waiting and closes."""
        await self.drain()
        await self._connection.close()

    def abort(self) -> None:
        """Closes at once; what is waiting is lost."""
        self._connection.transport.abort()
