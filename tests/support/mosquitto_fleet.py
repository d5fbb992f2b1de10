"""A fleet whose broker is Mosquitto with our files, where each party is known by its certificate."""

import shutil
from dataclasses import dataclass, field

from tests.acceptance.processes import run, wait_for
from tests.support.fleet import Fleet
from tests.support.mosquitto import Broker


@dataclass
class MosquittoFleet(Fleet):
    """A fleet whose broker is Mosquitto, set up as packaging/mosquitto/README.md says."""

    broker: Broker = field(init=False)

    def start_hub(self) -> None:
        if not hasattr(self, "broker"):
            self._make_broker()
        super().start_hub()
        wait_for("the hub to connect", lambda: self.bridge()["connected"], seconds=20)

    def _make_broker(self) -> None:
        tls, pki = self.hub_folder / "tls", self.folder / "pki"
        files = ("--out", str(tls), "--address", "127.0.0.1", "--config", str(self.hub_config))
        run("edgeward-hub", "broker-files", *files)
        pki.mkdir()
        for name in ("ca.pem", "revoked.pem", "broker.pem", "broker.key"):
            shutil.copy(tls / name, pki)
        self.broker = Broker(self.folder, pki)
        self.broker.start()
        text = self.hub_config.read_text()
        text = text.replace("embedded = true", "embedded = false")
        text = text.replace(f"port = {self.broker_port}", f"port = {self.broker.port}")
        for line in ("[broker.tls]", 'authority = "', 'certificate = "', 'key = "'):
            text = text.replace(f"# {line}", line)
        self.hub_config.write_text(text)
