"""From drift to another system's ticket and back: what a hub with webhooks tells, and what an answer does."""

import json
from pathlib import Path

import pytest

from cloud_hub import setup
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.retraining.test_requests import Story, signed, story
from tests.unit.cloud_hub.webhooks.test_webhooks import SECRET, Receiver, receiver

__all__ = ["receiver", "signed", "story"]


@pytest.fixture
def home(tmp_path: Path, receiver: Receiver) -> Path:
    """Folder of a new hub that tells ``receiver``."""
    folder = tmp_path / "hub"
    setup.create_hub(folder, host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=False)
    (folder / "webhook.secret").write_bytes(SECRET)
    settings = folder / "hub.toml"
    text = settings.read_text()
    for shown, meant in (
        ('# urls = ["https://ci.example/edgeward"]', f'urls = ["{receiver.url}"]'),
        ('# secret_file = "webhook.secret"', 'secret_file = "webhook.secret"'),
    ):
        assert shown in text
        text = text.replace(shown, meant)
    settings.write_text(text)
    return folder


def test_a_ticket_is_opened_by_the_event_and_acknowledges_the_request(
    people: People, story: Story, hub: Hub, receiver: Receiver
) -> None:
    receiver.answers = [(503, b""), (200, b'{"acknowledge": true, "note": "EDGE-12"}')]
    story.hours(4, drifting=6)
    hub.webhooks.step()
    assert people.ok("viewer", "GET", "/v1/retraining")[0]["state"] == "open"
    story.clock.now += 10
    hub.webhooks.step()
    (request,) = people.ok("viewer", "GET", "/v1/retraining")
    assert (request["acknowledged_by"], request["note"]) == ("webhook 127.0.0.1", "EDGE-12")
    first, second = (json.loads(body) for _, body in receiver.got)
    assert first == second
    assert (first["event"], first["data"]["id"]) == ("retraining-requested", request["id"])
    audit = people.ok("auditor", "GET", "/v1/audit")
    assert any(
        (entry["action"], entry["actor"]) == ("retraining-acknowledge", "webhook 127.0.0.1")
        for entry in audit
    )
    story.hours(3, drifting=0)
    hub.webhooks.step()
    assert json.loads(receiver.got[-1][1])["event"] == "retraining-closed"
    told = people.ok("operator", "GET", "/v1/webhooks")
    assert {each["outcome"] for each in told} == {"delivered"}
    assert people.call("author", "GET", "/v1/webhooks").status_code == 403
