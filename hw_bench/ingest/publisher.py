"""A child that stands for many devices: ``python -m hw_bench.ingest.publisher LOAD_JSON``, steered by its standard input.

It encodes its batches, says ``ready``, and for each line ``PORT`` publishes them all with paho at QoS 1 and says ``done``.
"""

import sys
import threading

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from hw_bench.ingest.workload import Load, messages

IN_FLIGHT = 200


def publish(port: int, batches: list[tuple[str, bytes]]) -> None:
    """Return when the broker has taken every one."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(IN_FLIGHT)
    taken = threading.Semaphore(0)
    client.on_publish = lambda *_: taken.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    for place, (name, payload) in enumerate(batches):
        if place >= IN_FLIGHT:
            taken.acquire()
        client.publish(name, payload, qos=1)
    for _ in range(min(IN_FLIGHT, len(batches))):
        taken.acquire()
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Serve rounds until the input ends."""
    batches = messages(msgspec.json.decode(sys.argv[1], type=Load))
    print("ready", len(batches[0][1]), flush=True)  # noqa: T201 - a child speaks to its parent
    for line in sys.stdin:
        publish(int(line), batches)
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
