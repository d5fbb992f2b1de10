"""The director's document: somebody else's, forged, of another kind, or saying what it may not say."""

import psutil
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Targets

from agent.protocol.limits import MAX_DIRECTOR_BYTES
from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub

MANIFEST = "models/digits/1/manifest.json"


def test_a_document_for_another_device(hub: HostileHub, device: AttackedDevice) -> None:
    reason = device.refuses(hub.direct(1, device="cam-2", deployment=hub.next_deployment()))
    assert reason.code == "wrong-device"
    assert "'cam-2'" in reason.text


def test_a_desired_state_that_names_another_device(hub: HostileHub, device: AttackedDevice) -> None:
    before = device.errors().get("desired-refused", 0)
    hub.desire(device.name, device.order(1)[0], named="cam-2")
    assert device.counts("desired-refused", before + 1)
    refusal = device.status().state.refusal
    assert refusal is not None
    assert refusal.code == "wrong-device"


def test_a_document_for_no_device(hub: HostileHub, device: AttackedDevice) -> None:
    document = forging.director(hub, device.order(1)[0], lambda signed: signed.unrecognized_fields.clear())
    assert device.refuses(document).code == "wrong-device"


def test_a_document_signed_by_other_keys(hub: HostileHub, device: AttackedDevice) -> None:
    for thief in (
        hub.keys.online,
        hub.keys.approvers["ada"],
        hub.keys.offline[0],
        CryptoSigner.generate_ed25519(),
    ):
        document = forging.director(hub, device.order(1)[0], lambda _: None, thief)
        assert device.refuses(document).code == "bad-signature"


def test_a_document_changed_on_the_way(device: AttackedDevice) -> None:
    director, deployment = device.order(1)
    changed = director.replace(deployment.encode(), b"d-evil")
    assert changed != director
    assert device.refuses(changed).code == "bad-signature"


def test_a_document_of_another_type(hub: HostileHub, device: AttackedDevice) -> None:
    for role in ("digits", "snapshot", "timestamp", "root"):
        reason = device.refuses(hub.repository.published(role))
        assert reason.code == ("bad-signature" if role == "digits" else "malformed"), role


def test_a_directors_document_as_a_models_role(hub: HostileHub, device: AttackedDevice) -> None:
    honest = hub.repository.published("digits")
    version = hub.repository.versions()["digits"] + 1
    document = forging.director(hub, device.order(1)[0], lambda signed: setattr(signed, "version", version))
    hub.list_unchecked("digits", document)
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "not-approved"
    forging.relist(hub, honest)


def test_a_document_that_delegates(hub: HostileHub, device: AttackedDevice) -> None:
    document = forging.director(
        hub, device.order(1)[0], lambda signed: setattr(signed, "delegations", Delegations({}, {}))
    )
    assert device.refuses(document).code == "malformed"


NO_DOCUMENTS = {
    "hollow": "{}",
    "nul": "\x00",
    "deep list": "[" * 60_000,
    "deep object": '{"signed":' * 6_000,
    "lists": '{"signed": [], "signatures": {}}',
    "huge number": '{"signed": {"_type": "targets", "version": 1' + "0" * 5_000 + "}}",
    "words for a terminal": '{"signed": {"_type": "' + "\u202e" * 10_000 + '"}, "signatures": []}',
}


def test_documents_that_are_none(device: AttackedDevice) -> None:
    for what, document in NO_DOCUMENTS.items():
        reason = device.refuses(document)
        assert reason.code == "malformed", what
        assert reason.text.isprintable()


def test_a_document_that_is_too_large(device: AttackedDevice) -> None:
    """The text has an allowed number of characters, and more bytes than that."""
    document = device.order(1)[0].decode() + " " * 1_000 + "\u20ac" * (MAX_DIRECTOR_BYTES // 3)
    reason = device.refuses(document)
    assert reason.code == "malformed"
    assert f"at most {MAX_DIRECTOR_BYTES} are allowed" in reason.text


PATHS = {
    "dot-dot": "models/digits/1/../1/manifest.json",
    "dot-dot as model": "models/../1/manifest.json",
    "absolute": "/models/digits/1/manifest.json",
    "trailing": "models/digits/1/manifest.json/",
    "padded": "models/digits/01/manifest.json",
    "huge release": "models/digits/9007199254740993/manifest.json",
    "full-width digit": "models/digits/\uff11/manifest.json",
    "dotless i": "models/d\u0131gits/1/manifest.json",
    "line end": "models/digits\n/1/manifest.json",
    "backslashes": "models\\digits\\1\\manifest.json",
    "no manifest": "models/digits/1/model.onnx",
}


def test_target_paths_that_play_tricks(hub: HostileHub, device: AttackedDevice) -> None:
    for what, path in PATHS.items():

        def trick(signed: Targets, path: str = path) -> None:
            signed.targets = {path: signed.targets.pop(MANIFEST)}
            signed.targets[path].path = path

        document = forging.director(hub, device.order(1)[0], trick)
        assert device.refuses(document).code == "malformed", what


def _two_releases(signed: Targets) -> None:
    taken = signed.targets[MANIFEST]
    other = "models/digits/2/manifest.json"
    signed.targets[other] = forging.target(
        other, taken.length, taken.hashes["sha256"], {"deployment": "d-other"}
    )


def _no_order(signed: Targets) -> None:
    signed.targets[MANIFEST].unrecognized_fields["custom"] = {"deployment": "../d"}


def _two_hashes(signed: Targets) -> None:
    signed.targets[MANIFEST].hashes["md5"] = "0" * 32


def _huge_manifest(signed: Targets) -> None:
    signed.targets[MANIFEST].length = 2**80


def _huge_version(signed: Targets) -> None:
    signed.version = 2**70


def test_documents_that_say_what_they_may_not(hub: HostileHub, device: AttackedDevice) -> None:
    """The largest version would block every later one, and no mark could hold it: no version is so large."""
    for change in (_two_releases, _no_order, _two_hashes, _huge_manifest, _huge_version):
        assert device.refuses(forging.director(hub, device.order(1)[0], change)).code == "malformed", change


def _other_length(signed: Targets) -> None:
    signed.targets[MANIFEST].length = 7


def _other_hash(signed: Targets) -> None:
    signed.targets[MANIFEST].hashes = {"sha256": "0" * 64}


def test_another_manifest_under_an_approved_path(hub: HostileHub, device: AttackedDevice) -> None:
    for change in (_other_length, _other_hash):
        director, deployment = device.order(1)
        reason = device.rejects(forging.director(hub, director, change), deployment)
        assert reason.code == "not-approved"
        assert "another manifest" in reason.text


def test_models_by_the_hundred_that_nobody_may_approve(hub: HostileHub, device: AttackedDevice) -> None:
    """A stolen director's key names what it likes; a name alone costs the device no socket and no state."""

    def many(signed: Targets) -> None:
        taken = signed.targets[MANIFEST]
        for number in range(150):
            path = f"models/x-{number}/1/manifest.json"
            order = {"deployment": f"{deployment}-x{number}"}
            signed.targets[path] = forging.target(path, taken.length, taken.hashes["sha256"], order)

    process = psutil.Process(device.pid)
    before, models = process.num_fds(), set(device.models())
    director, deployment = device.order(1)
    since = device.reports()
    device.ends(forging.director(hub, director, many), deployment)
    assert set(device.models()) == models
    assert process.num_fds() < before + 20
    report = device.hears(lambda each: deployment in {one.deployment for one in each.deployments}, since)
    refused = [each for each in report.deployments if each.reason and each.reason.code == "unknown-model"]
    assert refused
    assert {each.model for each in report.deployments} > models
