"""Says goodbye when it is interrupted: by Ctrl-C, or as a service."""

import signal
import sys
import time

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="polite")
client.will_set("polite/status", "lost", retain=True)
client.connect("broker")
client.loop_start()
client.publish("polite/status", "online", retain=True)


def goodbye(reason):
    info = client.publish("polite/status", f"offline: {reason}", qos=1, retain=True)
    info.wait_for_publish(timeout=5)
    client.disconnect()
    client.loop_stop()


def on_sigterm(number, frame):
    goodbye(signal.Signals(number).name)
    sys.exit(3)


if "--service" in sys.argv:
    signal.signal(signal.SIGTERM, on_sigterm)
try:
    while True:
        time.sleep(60)
except KeyboardInterrupt:
    goodbye("ctrl-c")
