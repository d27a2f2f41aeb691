"""The main thread ends; a daemon thread that never ends does not hold it up."""

import threading
import time

import paho.mqtt.publish as publish


def forever():
    while True:
        time.sleep(0.7)


def finite():
    time.sleep(4)
    publish.single("finite", "done", qos=2, hostname="broker")


threading.Thread(target=forever, daemon=True).start()
threading.Thread(target=finite).start()
print("main is done")
