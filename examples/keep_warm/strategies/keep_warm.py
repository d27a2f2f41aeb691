"""Keeps the buffer tank of the lab warm: pump 1 runs fast below the band, slow above.

An ordinary MQTT program. It goes to the lab as it is, and it is tested as it is:

    python strategies/keep_warm.py broker.lab 40
"""

import json
import sys
import threading

import paho.mqtt.client as mqtt

SNAPSHOT = "nidaq/cDAQ9189-0/snapshot"
BAND = 1.5
FAST, SLOW = "0.7", "0.1"


class KeepWarm:
    def __init__(self, host, port=1883, setpoint=40.0):
        self.setpoint = setpoint
        self.said = None
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="keep-warm"
        )
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        self.client.will_set("vsd1/write", SLOW, qos=1)
        self.client.connect(host, port)
        self.client.loop_start()

    def on_connect(self, client, userdata, flags, reason, properties):
        client.subscribe(SNAPSHOT)
        client.publish("vsd2/write", "0.5", qos=1)

    def on_message(self, client, userdata, message):
        tank = json.loads(message.payload).get("tc_buffer")
        if tank is None:
            return
        if tank < self.setpoint - BAND:
            self.say(FAST)
        elif tank > self.setpoint + BAND:
            self.say(SLOW)

    def say(self, speed):
        if speed != self.said:
            self.said = speed
            self.client.publish("vsd1/write", speed, qos=1)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


if __name__ == "__main__":
    host, setpoint = sys.argv[1], float(sys.argv[2])
    KeepWarm(host, setpoint=setpoint)
    threading.Event().wait()
