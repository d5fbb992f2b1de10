"""The wire contract between device, hub and technician: types and pure functions, no I/O, no clock.

Every message is a frozen ``msgspec.Struct``. State and telemetry travel as JSON (a person with
``mosquitto_sub`` can read them); block transfer, the verifier child and the runner's control channel use msgpack,
because they carry bytes.
"""
