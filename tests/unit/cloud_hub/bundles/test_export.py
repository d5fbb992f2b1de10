import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent.protocol.bundle import PREFIX_BYTES, BundleIndex, OpenedBundle, open_bundle
from agent.protocol.state import Phase
from cloud_hub.bundles.checking import check_bundle
from cloud_hub.errors import InputError
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.bundles.conftest import Site
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import assignments, report
from tests.unit.cloud_hub.sample_release import release_files

DAY = 86_400


def opened(data: bytes) -> OpenedBundle:
    return open_bundle(lambda offset, length: data[offset : offset + length], len(data))


def index(data: bytes) -> BundleIndex:
    return opened(data).index


def part(data: bytes, kind: str, name: str) -> bytes:
    file, offset = opened(data).places[kind, name]
    return data[offset : offset + file.size]


def names(data: bytes, kind: str) -> set[str]:
    return {file.name for file in index(data).files if file.kind == kind}


def problem(site: Site, who: str = "operator", **wish: Any) -> str:
    answer = site.people.call(who, "POST", "/v1/bundles", json=wish)
    assert answer.is_error
    return f"{answer.status_code} {answer.json()['detail']}"


def commit(site: Site, hub: Hub, device: str, release: int = 1) -> None:
    from cloud_hub.rollouts.reports import take_report

    state = report(device, (site.deployment(device), release, Phase.COMMITTED))
    hub.database.write(
        lambda session: take_report(session, state, signing=hub.director_signing, now=hub.now())
    )


def test_a_bundle_has_what_a_device_needs_and_no_evidence(site: Site, hub: Hub) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    assert names(data, "artifact") == {
        f"models/digits/1/{name}"
        for name in ("manifest.json", "onnx-fp32.onnx", "onnx-int8.onnx", "golden.msgpack", "reference.json")
    }
    assert names(data, "director") == {"cam-1"}
    assert names(data, "metadata") == {
        "1.root.json",
        "1.targets.json",
        "2.digits.json",
        "3.snapshot.json",
        "timestamp.json",
    }
    assert part(data, "artifact", "models/digits/1/onnx-int8.onnx") == release_files()["onnx-int8.onnx"]
    (device,) = index(data).devices
    assert [order.deployment for order in device.orders] == [site.deployment("cam-1")]
    document = part(data, "director", "cam-1").decode()
    assert list(assignments(document).values()) == [site.deployment("cam-1")]


def test_devices_share_artifacts_and_each_has_its_own_document(site: Site) -> None:
    rollout = site.rollout()
    one, two = site.export(devices=["cam-1"]), site.export(rollout=rollout)
    assert names(two, "director") == {"cam-1", "cam-2"}
    assert names(two, "artifact") == names(one, "artifact")


def test_the_document_in_it_is_the_one_that_is_published_online(site: Site, hub: Hub) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    from cloud_hub.rollouts.models import DesiredDocument

    row = hub.database.read(lambda session: session.get_one(DesiredDocument, "cam-1"))
    assert part(data, "director", "cam-1").decode() == row.document
    assert row.version == 2
    assert hub.publisher.devices[-1] == "cam-1"  # type: ignore[union-attr]  # the recording publisher


def test_the_timestamp_in_it_lives_thirty_days_and_the_one_online_a_day(
    site: Site, hub: Hub, clock: Clock
) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    exported = json.loads(part(data, "metadata", "timestamp.json"))["signed"]
    online = json.loads(hub.repository.published("timestamp"))["signed"]
    assert online["version"] == exported["version"] + 1
    assert online["expires"] < exported["expires"]
    snapshot = json.loads(part(data, "metadata", "3.snapshot.json"))["signed"]
    assert hub.repository.versions()["snapshot"] == snapshot["version"] + 1
    assert index(data).expires == pytest.approx(clock.now + 30 * DAY, abs=2)
    again = json.loads(part(site.export(devices=["cam-1"]), "metadata", "timestamp.json"))["signed"]
    assert again["version"] == online["version"] + 1


def test_it_expires_with_what_in_it_expires_first(site: Site, hub: Hub, clock: Clock) -> None:
    site.rollout()
    role = json.loads(hub.repository.published("digits"))["signed"]["expires"]
    clock.now += 50 * DAY  # the role was drafted for 60 days
    data = site.export(devices=["cam-1"])
    assert index(data).expires - clock.now == pytest.approx(10 * DAY, abs=DAY)
    assert role.startswith("20")


def test_what_a_device_has_committed_is_not_brought_again_unless_asked_for(site: Site, hub: Hub) -> None:
    site.rollout()
    commit(site, hub, "cam-1")
    assert "committed already" in problem(site, devices=["cam-1"])
    assert names(site.export(devices=["cam-1"], complete=True), "artifact")
    both = site.export(devices=["cam-1", "cam-2"])
    assert names(both, "artifact")


def test_who_asks_for_what_no_rollout_gave_is_told_how_to_get_it(site: Site) -> None:
    assert "edgeward-hub rollout start MODEL RELEASE --device cam-1" in problem(site, devices=["cam-1"])
    site.rollout(1, "cam-1")
    wrong = problem(site, devices=["cam-1"], releases={"digits": 7})
    assert wrong.startswith("409 cam-1 is asked to run digits 1, not digits 7; start a rollout")
    assert names(site.export(devices=["cam-1"], releases={"digits": 1}), "artifact")
    assert "no faces" in problem(site, devices=["cam-1"], releases={"faces": 1})


def test_wishes_that_make_no_bundle(site: Site) -> None:
    wishes: list[tuple[dict[str, Any], str]] = [
        ({}, "400 a bundle is for devices or for a rollout: name one of the two"),
        ({"devices": ["cam-1"], "rollout": 1}, "name one of the two"),
        ({"devices": ["nobody"]}, "404 there is no device 'nobody'"),
        ({"rollout": 99}, "404 there is no rollout 99"),
        ({"devices": [f"cam-{number}" for number in range(300)]}, "300 in one bundle, at most 256"),
    ]
    for wish, words in wishes:
        assert words in problem(site, **wish)


def test_only_an_operator_may_export(site: Site) -> None:
    site.rollout()
    assert problem(site, "author", devices=["cam-1"]).startswith("403")


def test_a_device_whose_class_has_no_budget_would_refuse_it(site: Site) -> None:
    site.enrol("cam-3", hardware_class="toaster")
    site.rollout(1, "cam-3")
    assert "has no budget for toaster: cam-3 would refuse it" in problem(site, devices=["cam-3"])


def test_a_file_that_the_hub_has_lost_is_said_before_anything_is_signed(site: Site, hub: Hub) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    file, _offset = opened(data).places["artifact", "models/digits/1/onnx-int8.onnx"]
    (hub.paths.artifacts / file.sha256).write_bytes(b"short")
    before = hub.repository.versions()
    assert "onnx-int8.onnx is missing in the hub's store, or cut off" in problem(site, devices=["cam-1"])
    assert hub.repository.versions() == before


def test_the_export_is_in_the_audit_log(site: Site) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    entry = site.people.ok("auditor", "GET", "/v1/audit")[-1]
    assert (entry["action"], entry["subject"], entry["actor"]) == ("bundle-export", "cam-1", "the-operator")
    assert entry["details"]["bundle"] == opened(data).digest


# --- Checking one -----------------------------------------------------------------------------------------------


def check(data: bytes, root: bytes | None = None) -> str:
    """What the check says; "" where all is well."""
    try:
        check_bundle(io.BytesIO(data), len(data), root)
    except InputError as error:
        return str(error)
    return ""


def test_a_whole_bundle_checks_from_the_hubs_root_and_from_no_other(
    site: Site, hub: Hub, tmp_path: Path
) -> None:
    site.rollout()
    data = site.export(rollout=1)
    assert check(data, hub.root()) == check(data) == ""
    other = _other_root(tmp_path)
    assert "does not verify" in check(data, other)
    assert "is it of this hub?" in check(data, other)


def _other_root(folder: Path) -> bytes:
    from cloud_hub import setup
    from cloud_hub.cli.ceremony import hold_ceremony
    from cloud_hub.config import load_config

    setup.create_hub(folder / "other", host="127.0.0.1", port=1, broker_port=2, open_dashboard=False)
    _config, paths = load_config(folder / "other" / "hub.toml")
    return hold_ceremony(
        paths,
        folder / "other-keys",
        approvers=("a", "b", "c"),
        models=["digits"],
        root_keys=3,
        threshold=2,
    )


def test_every_flipped_bit_is_found(site: Site) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    places = [0, len(data) // 2, PREFIX_BYTES + 40, len(data) - 1]
    places += [offset for _file, offset in opened(data).places.values()]
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1
        assert check(bytes(flipped)), place


def test_an_index_signed_by_another_key_is_refused(site: Site, hub: Hub) -> None:
    from securesystemslib.signer import CryptoSigner

    from cloud_hub.signing.director import Director

    site.rollout()
    data = site.export(devices=["cam-1"])
    old = opened(data)
    payload = json.loads(old.envelope)["payload"]
    import base64

    forged = Director(CryptoSigner.generate_ed25519()).seal_bundle(base64.b64decode(payload))
    body = data[PREFIX_BYTES + len(old.envelope) :]
    fake = data[: PREFIX_BYTES - 4] + len(forged).to_bytes(4, "big") + forged + body
    assert "not signed by the director's key" in check(fake)


def test_a_cut_bundle_says_where_it_ends(site: Site) -> None:
    site.rollout()
    data = site.export(devices=["cam-1"])
    assert (
        check(data[:-1])
        == f"it ends after {len(data) - 1:,} of {len(data):,} bytes; copy the whole bundle again"
    )
    assert "inside its index" in check(data[: PREFIX_BYTES + 10])
    assert "1 more than its index says" in check(data + b"x")
    assert "not an Edgeward bundle" in check(b"PK\x03\x04")
    assert "a newer Edgeward" in check(b"edgeward-bundle/2\n" + bytes(100))
