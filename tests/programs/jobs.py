"""A home-made `schedule`: jobs with a datetime at which they are due."""

# ruff: noqa: DTZ005

import datetime
import time

import paho.mqtt.publish as publish


class Job:
    def __init__(self, every, action):
        self.every = datetime.timedelta(seconds=every)
        self.action = action
        self.due = datetime.datetime.now() + self.every

    def run_pending(self):
        if datetime.datetime.now() >= self.due:
            self.action()
            self.due += self.every


def report(kind):
    publish.single(f"report/{kind}", datetime.datetime.now().isoformat(), hostname="b")


jobs = [Job(10, lambda: report("fast")), Job(25, lambda: report("slow"))]
while True:
    for job in jobs:
        job.run_pending()
    time.sleep(1)
