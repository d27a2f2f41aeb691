import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="tls")
client.tls_set(ca_certs="/etc/plant/ca.pem", certfile="/etc/plant/me.pem")
client.tls_insecure_set(True)
client.username_pw_set("me", "secret")
client.connect("broker", 8883)
client.loop_start()
client.publish("tls/said", "hello", qos=1).wait_for_publish()
client.disconnect()
client.loop_stop()
