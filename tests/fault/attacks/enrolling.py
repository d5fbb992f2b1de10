"""The one page of a hub's API that a device ever asks for: enrolment, with a real authority behind it."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from agent.config import AgentConfig
from agent.enrol import enrol_device
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.enrolment import BrokerAddress, EnrolmentRequest, EnrolmentResponse
from cloud_hub.devices.authority import DeviceAuthority
from tests.fault.trust.hub_simulator import HubSimulator


def enrol(config: AgentConfig, hub: HubSimulator, authority: Path, broker_port: int) -> None:
    """Enrol a device as ``edgeward-agent enrol`` does, with a hub that trusts ``authority``'s folder."""
    issuer = DeviceAuthority(authority)

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = decode_json(body, EnrolmentRequest)
            certificate = issuer.issue(request.csr, request.device, 30, time.time())
            answer = EnrolmentResponse(
                device=request.device,
                certificate=certificate.pem,
                authority=issuer.pem,
                broker=BrokerAddress(host="127.0.0.1", port=broker_port, tls=True),
                root=hub.store.files["root.json"].decode(),
                minimum_versions=hub.repository.versions(),
            )
            data = encode_json(answer)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is the test's."""

    root = hashlib.sha256(hub.store.files["root.json"]).hexdigest()
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            enrol_device(config, f"http://127.0.0.1:{server.server_port}", f"ew1.{'x' * 32}.{root}")
        finally:
            server.shutdown()
            thread.join(timeout=10)
