"""Labels through the front: to the model that the path names, and only where its owner takes them from the network."""

import httpx

from agent.supervisor.device_address import DeviceAddress
from tests.integration.front.conftest import OpenModel

LABELS = {"labels": [{"request": "r-1", "label": "0", "origin": "system"}]}


async def test_labels_reach_the_model_that_is_named_by_the_way_that_is_allowed(
    address: DeviceAddress, open_model: OpenModel
) -> None:
    servers = {
        "alpha": await open_model("alpha", labels="unix+tcp"),
        "beta": await open_model("beta", labels="unix"),
    }
    await address.share(servers)
    host, port = address.tcp_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as client:
        answer = await client.post("/v2/models/alpha/labels", json=LABELS)
        assert answer.json() == {"answers": [{"request": "r-1", "outcome": "joined", "text": "alpha"}]}
        # The front connects by beta's Unix socket; whoever it speaks for did not.
        refused = await client.post("/v2/models/beta/labels", json=LABELS)
        assert refused.status_code == 403
        assert "only on the models' Unix sockets" in refused.json()["error"]
        assert (await client.post("/v2/models/gamma/labels", json=LABELS)).status_code == 404
    socket = str(servers["beta"].listeners.unix_path)
    async with httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=socket), base_url="http://localhost"
    ) as client:
        answer = await client.post("/v2/models/beta/labels", json=LABELS)
        assert answer.json()["answers"][0]["text"] == "beta"
