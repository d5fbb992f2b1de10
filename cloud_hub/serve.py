"""Run the hub: broker, bridge, ingest, clockwork and API in one process."""

import faulthandler
import logging
import signal
import threading
import time
from contextlib import ExitStack
from types import FrameType

import uvicorn

from agent.protocol.codec import describe_structs
from agent.protocol.topics import FROM_DEVICE, Channel
from cloud_hub.app import create_app, create_device_app
from cloud_hub.bridge.bridge import Bridge
from cloud_hub.broker import EmbeddedBroker
from cloud_hub.config import HubConfig, Paths
from cloud_hub.downloads.listener import DownloadListener
from cloud_hub.hub import Hub
from cloud_hub.ingest.process import only_one
from cloud_hub.ingest.service import Ingest
from cloud_hub.mqtt import MqttLink
from cloud_hub.ticker import Ticker

log = logging.getLogger(__name__)

KEEPER_SECONDS = 1.0
"""How often what is made of telemetry is brought up to date."""


class Clockwork:
    """A thread that ticks: rollouts each tick, the timestamp now and then."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-clockwork", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        refresh_at = time.monotonic()
        while not self._stop.is_set():
            try:
                self._hub.tick()
                self._hub.keep_samples()
                self._hub.keep_labels()
                if time.monotonic() >= refresh_at:
                    self._hub.refresh_timestamp()
                    self._hub.note_expiry()
                    refresh_at = time.monotonic() + self._hub.config.trust.timestamp_refresh_seconds
            except Exception:  # one bad tick must not be the last
                log.exception("tick failed")
            self._stop.wait(self._hub.config.rollouts.tick_seconds)


def serve(config: HubConfig, paths: Paths) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        HubError: the embedded broker does not start.
        SigningError: the online keys cannot be read.
    """
    describe_structs()
    faulthandler.enable()
    with ExitStack() as running:
        hub = Hub(config, paths)
        running.callback(hub.close)
        hub.database.migrate()
        hub.recover()
        if config.broker.embedded:
            broker = EmbeddedBroker(paths.data, config.broker.host, config.broker.port)
            running.callback(broker.stop)
            broker.start()
        channels = FROM_DEVICE if config.ingest.serve else FROM_DEVICE - {Channel.TELEMETRY}
        link = MqttLink(config.broker, f"edgeward-{config.name}", hub.counters.count, channels)
        bridge, clockwork = Bridge(hub, link), Clockwork(hub)
        if config.ingest.serve:
            running.enter_context(only_one(paths))
            ingest = Ingest(config.name, hub.database, link, hub.counters, hub.now)
            ingest.start()
            running.callback(ingest.stop)
        hub.publisher = bridge
        bridge.start()
        running.callback(bridge.stop)
        clockwork.start()
        running.callback(clockwork.stop)
        keeper = Ticker("hub-telemetry", hub.keep_telemetry, KEEPER_SECONDS)
        running.callback(keeper.stop)
        keeper.start()
        webhooks = Ticker("hub-webhooks", hub.webhooks.step, KEEPER_SECONDS)
        running.callback(webhooks.stop)
        webhooks.start()
        if config.downloads.port is not None:
            listener = DownloadListener(hub, create_device_app(hub), paths)
            running.callback(listener.stop)
            listener.start()
        _run_api(hub)
    log.info("hub stopped")


def _run_api(hub: Hub) -> None:
    settings = uvicorn.Config(
        create_app(hub),
        host=hub.config.server.host,
        port=hub.config.server.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    # uvicorn stops at these signals and then raises them again for the handlers that stood before: they must not kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    log.info("hub starts", extra={"url": f"http://{hub.config.server.host}:{hub.config.server.port}"})
    uvicorn.Server(settings).run()


def _stopped(number: int, _frame: FrameType | None) -> None:
    log.info("stopping", extra={"signal": signal.Signals(number).name})
