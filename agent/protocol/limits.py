"""The sizes that both sides keep, in bytes unless the name says otherwise."""

MAX_MESSAGE_BYTES = 256 * 1024
"""One MQTT payload. A broker drops the connection over a larger one, so both sides check before they queue."""

MAX_RECORD_BYTES = 32 * 1024
"""One encoded telemetry record; a larger one is quarantined on the device and counted."""

MAX_BATCH_RECORDS = 256
"""How many telemetry records one message carries."""

BLOCK_BYTES = 64 * 1024
"""The longest stretch of an artifact or a metadata file that one response carries."""

MAX_METADATA_BYTES = 2 * 1024 * 1024
"""One TUF metadata file."""

MAX_MANIFEST_BYTES = 512 * 1024
"""One release manifest."""

MAX_DIRECTOR_BYTES = 64 * 1024
"""One director's document."""

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""One frame between a device's own processes."""

MAX_REPORTED_DEPLOYMENTS = 32
"""How many deployments a reported state carries: the newest ones."""
