"""Mix and match: pieces that were each signed once, put together as they never were."""

from tests.fault.attacks import forging, releases
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub, instead_of


def test_an_old_snapshot_under_the_new_name(hub: HostileHub, device: AttackedDevice) -> None:
    old = hub.repository.published("snapshot")
    hub.repository.sign_anew()
    hub.tamper = instead_of(f"{hub.repository.versions()['snapshot']}.snapshot.json", old)
    assert device.refuses(device.order(1)[0]).code == "mix-and-match"


def test_old_targets_under_the_new_name(hub: HostileHub, device: AttackedDevice) -> None:
    old = hub.repository.published("targets")
    forging.publish_targets(hub, lambda _: None)
    hub.tamper = instead_of(f"{hub.repository.versions()['targets']}.targets.json", old)
    assert device.refuses(device.order(1)[0]).code == "mix-and-match"


def test_an_old_role_under_the_new_name(hub: HostileHub, device: AttackedDevice) -> None:
    old = hub.repository.published("digits")
    forging.list_role(hub, lambda _: None, "ada", "ben")
    hub.tamper = instead_of(f"{hub.repository.versions()['digits']}.digits.json", old)
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "mix-and-match"


def test_one_models_role_listed_as_anothers(hub: HostileHub, device: AttackedDevice) -> None:
    """The same approvers sign both models, so only the model's name inside tells the documents apart."""
    stolen = hub.published_role("digits")
    stolen.version = hub.repository.versions()["faces"] + 1
    hub.add("faces", 1)
    for path, (length, sha256) in hub.release_files("faces", 1).items():
        stolen.targets[path] = forging.target(path, length, sha256)
    hub.list_unchecked("faces", hub.sign_role(stolen, "ada", "ben"))
    director, deployment = device.order(1, "faces")
    reason = device.rejects(director, deployment, "faces")
    assert reason.code == "not-approved"
    assert "signed this role for 'digits'" in reason.text


def test_a_manifest_with_another_releases_files(hub: HostileHub, device: AttackedDevice) -> None:
    """Mixed bundles: even a manifest that approvers signed names only what they signed beside it."""
    release = hub.next_release()
    files = releases.content("digits", release)
    swapped = {**files, "model.onnx": releases.times(3)}
    hub.release("digits", release, {**swapped, "manifest.json": files["manifest.json"]})
    director, deployment = device.order(release)
    reason = device.rejects(director, deployment)
    assert reason.code == "not-approved"
    assert "model.onnx is named in the manifest but not signed" in reason.text
