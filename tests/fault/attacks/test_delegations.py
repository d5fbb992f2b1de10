"""Delegation tricks: patterns that match too much or too little, and roles in between. Some need the holders' own mistake."""

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

from tests.fault.attacks import forging
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub

PATHS = ["models/digits/*/*"]


def test_a_pattern_that_misses_the_manifest(hub: HostileHub, device: AttackedDevice) -> None:
    """``models/digits/*`` looks right and matches no file of any release, for a star stands for one segment."""

    def change(paths: list[str]) -> None:
        forging.publish_targets(
            hub, lambda signed: setattr(delegations(signed)["digits"], "paths", list(paths))
        )

    change(["models/digits/*"])
    director, deployment = device.order(1)
    assert device.rejects(director, deployment).code == "malformed"
    change(PATHS)


def test_a_terminating_role_that_stands_before_the_models(hub: HostileHub, device: AttackedDevice) -> None:
    """Top-level targets with one more role, which answers for the model's paths with keys of its own."""
    thief = CryptoSigner.generate_ed25519()
    hub.add("digits", 6)

    def add(signed: Targets) -> None:
        assert signed.delegations is not None
        roles = delegations(signed)
        before = DelegatedRole("evil", [thief.public_key.keyid], 1, terminating=True, paths=list(PATHS))
        signed.delegations = Delegations(
            {**signed.delegations.keys, thief.public_key.keyid: thief.public_key}, {"evil": before, **roles}
        )

    def remove(signed: Targets) -> None:
        assert signed.delegations is not None
        del delegations(signed)["evil"]
        del signed.delegations.keys[thief.public_key.keyid]

    forging.publish_targets(hub, add)
    hub.list_unchecked("evil", role_of(hub, 6, thief))
    director, deployment = device.order(6)
    assert device.rejects(director, deployment).code in {"malformed", "not-approved"}
    forging.publish_targets(hub, remove)


def test_a_models_role_that_delegates_to_a_thief(hub: HostileHub, device: AttackedDevice) -> None:
    """Two approvers were led to sign it: what the thief's role lists is not approved all the same."""
    thief = CryptoSigner.generate_ed25519()
    hub.add("digits", 6)
    below = DelegatedRole("below", [thief.public_key.keyid], 1, terminating=False, paths=list(PATHS))

    def add(role: Targets) -> None:
        role.delegations = Delegations({thief.public_key.keyid: thief.public_key}, {"below": below})

    forging.list_role(hub, add, "ada", "ben")
    hub.list_unchecked("below", role_of(hub, 6, thief))
    director, deployment = device.order(6)
    assert device.rejects(director, deployment).code == "not-approved"
    forging.list_role(hub, lambda role: setattr(role, "delegations", None), "ada", "ben")


def test_targets_outside_the_models_own_paths(hub: HostileHub, device: AttackedDevice) -> None:
    """Files that the approvers' role lists elsewhere are no files of the release."""

    def add(role: Targets) -> None:
        stolen = role.targets["models/digits/1/model.onnx"]
        role.targets["models/digits/1/../../../etc/passwd"] = stolen
        role.targets["models/faces/1/manifest.json"] = stolen
        role.targets["models/digits/1/deeper/model.onnx"] = stolen

    def remove(role: Targets) -> None:
        role.targets = {path: file for path, file in role.targets.items() if ok(path)}

    def ok(path: str) -> bool:
        return path.startswith("models/digits/") and path.count("/") == len(PATHS[0].split("/")) - 1

    forging.list_role(hub, add, "ada", "ben")
    device.commits(1)
    state = device.config.state
    assert not (state / "etc").exists()
    director, deployment = device.order(1, "faces")
    assert device.rejects(director, deployment, "faces").code == "not-approved"
    forging.list_role(hub, remove, "ada", "ben")


def test_file_names_that_escape(hub: HostileHub, device: AttackedDevice) -> None:
    """Approvers' clients refuse to sign these; the device does not rely on it."""
    for name in ("..", ".hidden", "-rf", "a b", "x\n", "model\u202exnno.", "a" * 200):
        path = f"models/digits/1/{name}"

        def add(role: Targets, path: str = path) -> None:
            role.targets[path] = forging.target(path, 10, "0" * 64)

        def remove(role: Targets, path: str = path) -> None:
            del role.targets[path]

        forging.list_role(hub, add, "ada", "ben")
        director, deployment = device.order(1)
        reason = device.rejects(director, deployment)
        assert reason.code == "malformed", name
        assert reason.text.isprintable()
        forging.list_role(hub, remove, "ada", "ben")


def delegations(signed: Targets) -> dict[str, DelegatedRole]:
    assert signed.delegations is not None
    assert signed.delegations.roles is not None
    return signed.delegations.roles


def role_of(hub: HostileHub, release: int, signer: CryptoSigner) -> bytes:
    """A role with one release of ``digits``, by a signer who is no approver."""
    role = hub.published_role("digits")
    role.version, role.delegations = 1, None
    for path, (length, sha256) in hub.release_files("digits", release).items():
        role.targets[path] = forging.target(path, length, sha256)
    document = Metadata(role)
    document.sign(signer)
    return document.to_bytes()
