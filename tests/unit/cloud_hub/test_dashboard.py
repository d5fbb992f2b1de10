from functools import partial

import msgspec
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from agent.protocol.ledger import Traffic
from agent.protocol.state import Phase, TransferProgress
from cloud_hub.app import create_app
from cloud_hub.devices.service import get_device, take_report
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.hub_world import People, report
from tests.unit.cloud_hub.sample_release import release_files


def test_the_page_needs_a_token_and_keeps_it_in_a_cookie(people: People) -> None:
    assert people.http.get("/").status_code == 401
    assert people.http.get("/", params={"token": "ewh_wrong"}).status_code == 401
    shown = people.http.get("/", params={"token": people.tokens["viewer"]})
    assert shown.status_code == 200
    assert "HttpOnly" in shown.headers["set-cookie"]
    assert people.http.get("/").status_code == 200


def test_an_open_page_is_for_this_machine_by_its_own_name_only(hub: Hub) -> None:
    hub.config = msgspec.structs.replace(
        hub.config, dashboard=msgspec.structs.replace(hub.config.dashboard, open_on_loopback=True)
    )
    with TestClient(create_app(hub), base_url="http://evil.example") as client:
        assert client.get("/").status_code == 401


def test_an_update_under_way_says_how_far_it_is_and_a_device_what_it_has_spent(
    hub: Hub, people: People
) -> None:
    people.enrol("cam-1")
    state = report("cam-1", ("d1", 3, Phase.FETCHING))
    progress = TransferProgress(
        done_bytes=3_100_000,
        total_bytes=9_800_000,
        bytes_per_second=214_000.0,
        eta_seconds=31.3,
        way="http",
    )
    (deployment,) = state.deployments
    month = "2026-11"
    state = msgspec.structs.replace(
        state,
        deployments=(msgspec.structs.replace(deployment, progress=progress, reason=None),),
        traffic=(
            Traffic(month=month, purpose="telemetry", bytes_in=900, bytes_out=61_000),
            Traffic(month=month, purpose="artifacts", bytes_in=9_800_000, bytes_out=12_345),
        ),
    )

    def take(session: Session, *, online: bool) -> None:
        device = get_device(session, "cam-1")
        take_report(session, device, state, msgspec.json.encode(state), hub.now())
        device.online = online

    hub.database.write(partial(take, online=False))
    page = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    assert "digits 3: fetching 3.1 of 9.8 MB<" in page, "nothing moves while it is away"
    hub.database.write(partial(take, online=True))
    page = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    assert "digits 3: fetching 3.1 of 9.8 MB, 214 kB/s, 31 s left, over http" in page
    assert '<progress max="9800000" value="3100000" aria-label="digits 3">' in page
    assert "9.9 MB</td>" in page
    assert "2026-11: artifacts 9.8 MB in, 12.3 kB out, telemetry 900 B in, 61 kB out" in page


def test_what_people_wrote_is_shown_as_text_never_as_markup(people: People) -> None:
    def mischief(manifest: msgspec.Struct) -> msgspec.Struct:
        return msgspec.structs.replace(manifest, summary="<script>alert(1)</script>")

    people.enrol("cam-1")
    people.publish(release_files(rewrite=mischief))  # type: ignore[arg-type]  # a manifest in, a manifest out
    fleet = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    releases = people.http.get("/releases").text
    assert "never reported" in fleet
    assert "&lt;script&gt;" in releases
    assert "alice" in releases
    for page in (fleet, releases):
        assert "<script>" not in page
        assert "http://" not in page
        assert "https://" not in page
