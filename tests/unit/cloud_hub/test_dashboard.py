import msgspec
from litestar.testing import TestClient

from cloud_hub.app import create_app
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.hub_world import People
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


def test_what_people_wrote_is_shown_as_text_never_as_markup(people: People) -> None:
    def mischief(manifest: msgspec.Struct) -> msgspec.Struct:
        return msgspec.structs.replace(manifest, summary="<script>alert(1)</script>")

    people.enrol("cam-1")
    people.publish(release_files(rewrite=mischief))  # type: ignore[arg-type]  # a manifest in, a manifest out
    page = people.http.get("/", params={"token": people.tokens["viewer"]}).text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "alice" in page
    assert "never reported" in page
    assert "http://" not in page
    assert "https://" not in page
