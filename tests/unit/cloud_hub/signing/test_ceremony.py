"""The first ceremony, and the director's documents."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, Targets

from agent.protocol.limits import MAX_DIRECTOR_BYTES
from agent.protocol.state import Assignment
from cloud_hub.signing.ceremony import create_trust
from cloud_hub.signing.director import Director
from cloud_hub.signing.errors import CeremonyError, SigningError
from tests.fault.trust.hub_simulator import START, HubSimulator

Parts = dict[str, Any]


@pytest.fixture
def parts() -> Parts:
    approvers = {name: CryptoSigner.generate_ed25519() for name in ("ada", "ben", "cyd")}
    return {
        "offline": [CryptoSigner.generate_ed25519() for _ in range(3)],
        "online": CryptoSigner.generate_ed25519(),
        "director": CryptoSigner.generate_ed25519().public_key,
        "approvers": {name: signer.public_key for name, signer in approvers.items()},
        "approver_signers": [approvers["ada"], approvers["ben"]],
        "models": ["digits"],
        "now": START,
    }


def test_who_may_sign_what(parts: Parts) -> None:
    files = create_trust(**parts)
    root = Metadata[Root].from_bytes(files["1.root.json"]).signed
    offline = [signer.public_key.keyid for signer in parts["offline"]]
    assert {name: (role.threshold, role.keyids) for name, role in root.roles.items()} == {
        "root": (2, offline),
        "targets": (2, offline),
        "snapshot": (1, [parts["online"].public_key.keyid]),
        "timestamp": (1, [parts["online"].public_key.keyid]),
    }
    assert root.consistent_snapshot
    targets = Metadata[Targets].from_bytes(files["1.targets.json"]).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    digits, director = targets.delegations.roles["digits"], targets.delegations.roles["director"]
    assert (digits.threshold, len(digits.keyids), digits.terminating, digits.paths) == (
        2, 3, True, ["models/digits/*/*"],
    )  # fmt: skip
    assert (director.threshold, director.keyids, director.paths) == (1, [parts["director"].keyid], [])
    assert set(Metadata[Snapshot].from_bytes(files["1.snapshot.json"]).signed.meta) == {
        "targets.json",
        "digits.json",
    }
    assert files["root.json"] == files["1.root.json"]


def test_one_root_holder_may_lose_the_key(parts: Parts) -> None:
    root = Metadata[Root].from_bytes(create_trust(**parts)["1.root.json"])
    root.signatures.popitem()
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)


def change(name: str, value: Callable[[Parts], object]) -> Callable[[Parts], None]:
    return lambda parts: parts.update({name: value(parts)})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("offline", lambda parts: parts["offline"][:1]), "root holders: 1 given, a threshold of 2"),
        (change("root_threshold", lambda _: 0), "threshold of 0"),
        (
            change("approvers", lambda parts: dict(list(parts["approvers"].items())[:1])),
            "approvers of digits: 1 given",
        ),
        (
            change("approver_signers", lambda parts: parts["approver_signers"][:1]),
            "too few signers: digits: 1 more of ben, cyd",
        ),
        (
            change("approver_signers", lambda parts: parts["approver_signers"][:1] * 2),
            "too few signers: digits: 1 more of ben, cyd",
        ),
        (
            change("approver_signers", lambda parts: parts["offline"][:2]),
            "too few signers: digits: 2 more of ada, ben, cyd",
        ),
        (change("online", lambda parts: parts["offline"][0]), "one key serves twice"),
        (change("director", lambda parts: parts["online"].public_key), "one key serves twice"),
        (change("models", lambda _: ["director"]), "model 'director'"),
        (change("models", lambda _: ["targets"]), "model 'targets'"),
        (change("models", lambda _: ["a/b"]), "model 'a/b'"),
        (change("models", lambda _: ["*"]), r"model '\*'"),
    ],
)
def test_parts_that_do_not_fit(parts: Parts, spoil: Callable[[Parts], None], words: str) -> None:
    spoil(parts)
    with pytest.raises(CeremonyError, match=words):
        create_trust(**parts)


def test_a_directors_document_carries_device_time_and_order() -> None:
    hub = HubSimulator()
    signed = Metadata[Targets].from_bytes(hub.direct(3)).signed
    assert signed.unrecognized_fields == {"device": "cam-1", "issued": "2026-01-01T12:00:00Z"}
    (target,) = signed.targets.values()
    assert target.custom == {
        "deployment": "d-1",
        "hold": False,
        "variant_policy": "most-accurate",
        "shadow": None,
    }


def test_a_directors_document_that_no_message_could_carry() -> None:
    hub = HubSimulator()
    order = (1, "0" * 64, Assignment(deployment="d"))
    many = {f"models/m{number}/1/manifest.json": order for number in range(MAX_DIRECTOR_BYTES // 100)}
    with pytest.raises(SigningError, match="at most"):
        Director(hub.keys.director).sign("cam-1", 1, many, START + timedelta(days=1))


def test_a_device_that_is_none() -> None:
    with pytest.raises(SigningError, match="not a device id"):
        Director(CryptoSigner.generate_ed25519()).sign("../x", 1, {}, START)
