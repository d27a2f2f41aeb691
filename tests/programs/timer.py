"""A threading.Timer that arms itself again, and an Event that ends it all."""

import threading

import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="timer")
client.connect("broker")
client.loop_start()
done = threading.Event()
beats = 0


def beat():
    global beats
    beats += 1
    client.publish("timer/beat", beats)
    if beats == 4:
        done.set()
    else:
        threading.Timer(2.5, beat).start()


threading.Timer(2.5, beat).start()
print("in time:", done.wait(timeout=7), "later:", done.wait(timeout=7))
client.disconnect()
client.loop_stop()
