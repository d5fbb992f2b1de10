"""The MQTT bridge: what devices send goes into the database, what they ask for goes out."""
