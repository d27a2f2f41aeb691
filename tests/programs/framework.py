"""A home-grown framework that reads the clock once, when it is imported."""

# ruff: noqa: DTZ002

import time
from datetime import datetime
from time import monotonic as now

STARTED = time.time()
STARTED_MONOTONIC = now()
DAY = datetime.today().date()


class Task:
    def __init__(self, period):
        self.period = period
        self.last = STARTED_MONOTONIC

    def due(self):
        if now() - self.last >= self.period:
            self.last += self.period
            return True
        return False


def uptime():
    return time.time() - STARTED
