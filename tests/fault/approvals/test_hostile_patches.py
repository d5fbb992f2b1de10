"""Patches in a draft: the approver's client signs none that it has not applied itself, to what is approved."""

import hashlib
from pathlib import Path

import pytest

from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod, patch_name
from cloud_hub.signing.errors import DraftRefusedError
from tests.fault.approvals.hostile_hub import HostileHub
from tests.unit.delta.patches import nudged, weights

OLD = weights(30_000)
NEW = nudged(OLD, 0.02)
SUB8, SUB32, ZSTD = PatchMethod


def named(method: PatchMethod, base: bytes | None, target: str = "model.onnx") -> str:
    name = patch_name(target, method, None if base is None else hashlib.sha256(base).hexdigest())
    assert name is not None
    return name


GOOD = make_patch(OLD, NEW, SUB8)
WHOLE = make_patch(b"", NEW, ZSTD)


@pytest.fixture
def hub(tmp_path: Path) -> HostileHub:
    """Release 1 is published."""
    hub = HostileHub(tmp_path)
    hub.submit(1, model=OLD)
    hub.approve_as("ada")
    hub.approve_as("ben")
    hub.shown.clear()
    return hub


def test_patches_that_do_what_they_say_are_shown_and_signed(hub: HostileHub) -> None:
    hub.submit(2, model=NEW, beside={named(SUB8, OLD): GOOD, named(ZSTD, None): WHOLE})
    outcome = hub.approve_as("ada", 2)
    assert outcome.receipt is not None
    text = hub.shown[0]
    assert "adds      7 files" in text
    assert "patches   2; each was applied here, and made exactly the file named" in text
    assert f"model.onnx from release 1: {len(GOOD)} bytes instead of {len(NEW)}" in text
    assert f"model.onnx compressed: {len(WHOLE)} bytes instead of {len(NEW)}" in text


STRANGER = weights(30_000, 9)
REFUSED = {
    "makes another file": (named(SUB8, OLD), make_patch(OLD, OLD, SUB8), "it makes another file"),
    "makes another file of nothing": (named(ZSTD, None), make_patch(b"", OLD, ZSTD), "it makes another file"),
    "changes a file that nobody approved": (
        named(SUB8, STRANGER),
        make_patch(STRANGER, NEW, SUB8),
        "a file that was never approved",
    ),
    "changes the file that it makes": (named(SUB8, NEW), make_patch(NEW, NEW, SUB8), "never approved"),
    "is of another method than it says": (named(SUB32, OLD), GOOD, "is sub8, not sub32"),
    "is noise": (named(SUB8, OLD), b"noise", "this is no patch"),
    "is cut short": (named(SUB8, OLD), GOOD[:-9], "cut short"),
    "goes on behind its end": (named(SUB8, OLD), GOOD + b"more", "goes on behind its end"),
    "is longer than the file": (named(SUB8, OLD), bytes(30_001), "30001 bytes to make the 30000"),
    "makes no file of the release": (named(SUB8, OLD, "other.onnx"), GOOD, "the manifest does not name"),
    "is a patch of a patch": (
        named(SUB8, GOOD, named(SUB8, OLD)),
        make_patch(GOOD, GOOD, SUB8),
        "the manifest does not name",
    ),
}


@pytest.mark.parametrize("trick", REFUSED)
def test_a_draft_with_a_patch_that_is_not_what_it_says_is_not_signed(hub: HostileHub, trick: str) -> None:
    name, data, words = REFUSED[trick]
    hub.submit(2, model=NEW, beside={name: data})
    with pytest.raises(DraftRefusedError, match=words):
        hub.approve_as("ada", 2)
    assert hub.shown == [], "nobody was asked"


def test_a_base_that_the_hub_swaps_is_found_out(hub: HostileHub) -> None:
    hub.submit(2, model=NEW, beside={named(SUB8, OLD): GOOD})
    hub.artifacts[hashlib.sha256(OLD).hexdigest()] = STRANGER
    with pytest.raises(DraftRefusedError, match="not the ones that the draft names"):
        hub.approve_as("ada", 2)


def test_a_patch_whose_bytes_the_hub_swaps_is_found_out(hub: HostileHub) -> None:
    hub.submit(2, model=NEW, beside={named(SUB8, OLD): GOOD})
    hub.artifacts[hashlib.sha256(GOOD).hexdigest()] = make_patch(OLD, OLD, SUB8)
    with pytest.raises(DraftRefusedError, match="not the ones that the draft names"):
        hub.approve_as("ada", 2)
