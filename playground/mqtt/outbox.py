"""What a connection has handed to paho and the broker has not taken yet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

MOST_UNTAKEN = 20_000
"""paho loses messages when its 65,535 packet ids are used up."""


class Outbox:
    """Publications under way, in order; safe to use from several threads.

    No lock of ours is held while paho is called: its network thread holds locks
    of its own when it reports.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lossy: deque[MQTTMessageInfo] = deque()
        self._sure: deque[MQTTMessageInfo] = deque()

    def add(self, info: MQTTMessageInfo, qos: int) -> bool:
        """Registers a publication; returns False if paho did not take it."""
        if qos and info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            # Kept by paho and sent when the connection is back.
            info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._lock:
            queue = self._sure if qos else self._lossy
            queue.append(info)
            while queue and _is_taken(queue[0]):
                queue.popleft()
        return True

    def wait_for_room(self, qos: int, timeout_s: float) -> None:
        """Waits while too much is under way; gives up after ``timeout_s``."""
        queue = self._sure if qos else self._lossy
        deadline = time.monotonic() + timeout_s
        while len(queue) >= MOST_UNTAKEN and time.monotonic() < deadline:
            with contextlib.suppress(IndexError):
                _wait(queue[0], deadline - time.monotonic())
            self._prune()

    def wait_for_all(self, timeout_s: float) -> int:
        """Waits until everything is taken; returns how many are not."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                pending = list(self._lossy)[-1:] + list(self._sure)
            if not pending:
                return 0
            for info in pending:
                if not _wait(info, deadline - time.monotonic()):
                    self._prune()
                    return len(self._lossy) + len(self._sure)
            self._prune()

    def connection_lost(self) -> int:
        """Forgets what went down at QoS 0; returns how many these are."""
        with self._lock:
            lost = sum(not _is_taken(info) for info in self._lossy)
            self._lossy.clear()
        return lost

    def _prune(self) -> None:
        with self._lock:
            for queue in (self._lossy, self._sure):
                while queue and _is_taken(queue[0]):
                    queue.popleft()


def _is_taken(info: MQTTMessageInfo) -> bool:
    try:
        return info.is_published()
    except (RuntimeError, ValueError):
        return True  # paho has given it up; it was counted when that happened


def _wait(info: MQTTMessageInfo, timeout_s: float) -> bool:
    try:
        info.wait_for_publish(max(timeout_s, 0.0))
        return info.is_published()
    except (RuntimeError, ValueError):
        return True
