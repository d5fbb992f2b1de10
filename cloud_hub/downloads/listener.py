"""The listener for devices: HTTPS by hypercorn, which speaks HTTP/2 and HTTP/1.1, in a thread with a loop of its own."""

import asyncio
import logging
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from hypercorn.asyncio import serve
from hypercorn.config import Config
from litestar import Litestar

from cloud_hub.config import Paths
from cloud_hub.devices.authority import DeviceAuthority
from cloud_hub.errors import ConfigError
from cloud_hub.hub import Hub

log = logging.getLogger(__name__)

BACKLOG = 128
CERTIFICATE_DAYS = 397
"""The longest that common TLS libraries take without complaint; made anew at each start of the hub."""
GOODBYE_SECONDS = 5


class DownloadListener:
    """Serves signed artifacts to devices, beside the API's own server.

    Args:
        hub: its ``[downloads]`` names address and certificate; ``port`` and ``url`` must be set.
        app: what is served.
        paths: where the certificate goes that the hub makes itself.
    """

    def __init__(self, hub: Hub, app: Litestar, paths: Paths) -> None:
        self._settings = hub.config.downloads
        self._hub = hub
        self._app = app
        self._folder = paths.data / "tls"
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="hub-downloads", daemon=True)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen, then serve in the background.

        Raises:
            ConfigError: the address can't be listened on, or the certificate can't be used.
        """
        settings = self._settings
        where = f"{settings.host}:{settings.port}"
        certificate, key = self._certificate()
        try:
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            self._socket = socket.create_server(
                (settings.host, settings.port or 0), family=family, backlog=BACKLOG
            )
        except OSError as error:
            raise ConfigError(f"downloads.host and downloads.port, {where}: {error.strerror}") from error
        self._config = _config(self._socket, certificate, key)
        try:
            self._config.create_ssl_context()
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"downloads.certificate {certificate}: {error}") from error
        self._thread.start()
        log.info("serves devices", extra={"address": where, "url": settings.url})

    def stop(self) -> None:
        """Close the listener; downloads under way have a moment."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=2 * GOODBYE_SECONDS)
        self._loop.close()

    def _run(self) -> None:
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(
                serve(self._app, self._config, shutdown_trigger=self._stopping.wait)  # type: ignore[arg-type] # its ASGI types are its own
            )
        except Exception:  # devices fetch over MQTT then
            log.exception("the listener for devices ended")

    def _certificate(self) -> tuple[Path, Path]:
        if self._settings.certificate is not None and self._settings.key is not None:
            return Path(self._settings.certificate), Path(self._settings.key)
        host = urlsplit(self._settings.url or "").hostname or self._settings.host
        authority = DeviceAuthority(self._hub.paths.authority)
        return authority.issue_server_files(
            self._folder, "downloads", host, CERTIFICATE_DAYS, self._hub.now()
        )


def _config(listening: socket.socket, certificate: Path, key: Path) -> Config:
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.certfile, config.keyfile = str(certificate), str(key)
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.graceful_timeout = GOODBYE_SECONDS
    config.shutdown_timeout = GOODBYE_SECONDS
    return config
