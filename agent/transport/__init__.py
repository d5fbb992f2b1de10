"""How a device reaches its hub: MQTT for everything that lasts, HTTP for the one enrolment."""
