"""The embedded MQTT broker: rumqttd from the wheel ``iotcore``, in a child process that ends with this one.

It has no ACL and no identities, so it listens on loopback and nowhere else, and it forgets retained messages when it
restarts: the hub publishes them again.
"""

import logging
import time
from pathlib import Path

from iotcore import Broker

from cloud_hub.errors import HubError

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = 320 * 1024
"""Over :data:`agent.protocol.limits.MAX_MESSAGE_BYTES` with its headers: the broker drops who sends more."""

PORT_PATIENCE_SECONDS = 10.0
"""The broker of a hub that was killed takes a moment to leave its port."""

_TOML = """\
id = 0

[router]
id = 0
max_connections = 2048
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "mqtt5"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload}
max_inflight_count = 200
dynamic_filters = true
"""


class BrokerError(HubError):
    title = "The embedded broker did not start"


class EmbeddedBroker:
    """Start and stop the broker; ``folder`` takes its configuration file."""

    def __init__(self, folder: Path, host: str, port: int) -> None:
        address = "127.0.0.1" if host == "localhost" else host
        path = folder / "broker.toml"
        path.write_text(
            _TOML.format(host=address, port=port, max_payload=MAX_PAYLOAD_BYTES), encoding="utf-8"
        )
        self._broker = Broker(config_path=str(path))
        self._address = f"{host}:{port}"

    def start(self) -> None:
        """Return when it takes connections.

        Raises:
            BrokerError: the port stays taken, or the broker fails.
        """
        deadline = time.monotonic() + PORT_PATIENCE_SECONDS
        while True:
            try:
                self._broker.start()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise BrokerError(f"broker {self._address}: {error}") from error
                time.sleep(0.1)
            except RuntimeError as error:
                raise BrokerError(f"broker {self._address}: {error}") from error
            else:
                log.info("embedded broker started", extra={"address": self._address})
                return

    def stop(self) -> None:
        self._broker.stop()
