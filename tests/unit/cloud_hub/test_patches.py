"""Patches on the hub: from which releases, which are kept, what a draft carries."""

import hashlib
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from subprocess import TimeoutExpired
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agent.protocol.manifest import ArtifactRef, Manifest, decode_manifest
from agent.protocol.patches import PatchMethod, parse_patch_name, patch_name
from cloud_hub.hub import Hub
from cloud_hub.registry import patches
from cloud_hub.registry.patches import Pair, pairs, worth_keeping
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import bench, release_files
from tests.unit.delta.patches import applied, nudged, weights

FP32, INT8 = weights(120_000, 1), weights(60_000, 2)


def files(release: int, fp32: bytes = FP32, int8: bytes = INT8) -> dict[str, bytes]:
    variants = {"onnx-fp32": fp32, "onnx-int8": int8}

    def change(each: dict[str, bytes]) -> None:
        each |= {f"{name}.onnx": data for name, data in variants.items()}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in variants.items()}
        each["bench.json"] = msgspec.json.encode(bench(digests, {"onnx-fp32": 20.0, "onnx-int8": 10.0}))

    return release_files(release, change=change)


def manifest(release: int, **content: bytes) -> Manifest:
    return decode_manifest(files(release, **content)["manifest.json"])


def ref(name: str, size: int) -> ArtifactRef:
    return ArtifactRef(filename=name, sha256=hashlib.sha256(name.encode()).hexdigest(), size=size)


def test_bases_are_what_devices_may_have_in_a_files_place() -> None:
    new = manifest(3, int8=nudged(INT8, 0.1))
    old, older = manifest(2, int8=nudged(INT8, 0.2)), manifest(1)
    found = pairs(new, [old, older])
    tried = {(pair.target.filename, None if pair.base is None else pair.base.sha256) for pair in found}
    int8 = {base.variant("onnx-int8").artifact.sha256 for base in (old, older)}
    assert tried == {
        ("onnx-fp32.onnx", None),  # the same in each release: whoever has it needs no patch
        ("onnx-int8.onnx", None),
        *(("onnx-int8.onnx", digest) for digest in int8),
    }, "golden.msgpack and reference.json are too small"


def test_a_variant_is_found_again_under_another_file_name() -> None:
    old = manifest(1, int8=nudged(INT8, 0.2))
    variant = replace(
        old.variants[1], artifact=replace(old.variants[1].artifact, filename="digits-int8.onnx")
    )
    found = pairs(manifest(2), [replace(old, variants=(old.variants[0], variant))])
    assert any(pair.base is not None and pair.base.filename == "digits-int8.onnx" for pair in found)


def test_what_saves_too_little_is_not_kept() -> None:
    target, base = ref("model.onnx", 1000), ref("old.onnx", 1000)
    whole, delta = Pair(target=target, base=None), Pair(target=target, base=base)

    def kept(zstd: int, sub8: int, sub32: int) -> list[tuple[str, int]]:
        made = {
            (delta, PatchMethod.SUB8): bytes(sub8),
            (delta, PatchMethod.SUB32): bytes(sub32),
            (whole, PatchMethod.ZSTD): bytes(zstd),
        }
        return [(name, len(data)) for _, name, data in worth_keeping([delta, whole], made)]

    sub8, sub32 = (f"model.onnx.from-{base.sha256[:16]}.{method}" for method in ("sub8", "sub32"))
    assert kept(950, 950, 940) == []
    assert kept(800, 750, 900) == [("model.onnx.zst", 800)], "750 of 800 is not worth a target"
    assert kept(800, 700, 600) == [("model.onnx.zst", 800), (sub32, 600)]
    assert kept(950, 300, 600) == [(sub8, 300)]


def test_what_was_not_made_in_time_is_left_out() -> None:
    pair = Pair(target=ref("model.onnx", 1000), base=None)
    assert list(worth_keeping([pair], {})) == []


def test_a_name_that_would_be_too_long_is_no_target() -> None:
    pair = Pair(target=ref("m" * 126, 1000), base=None)
    assert patch_name(pair.target.filename, PatchMethod.ZSTD) is None
    assert list(worth_keeping([pair], {(pair, PatchMethod.ZSTD): b"x"})) == []


def test_a_draft_carries_the_patches_and_they_make_its_files(hub: Hub, people: People) -> None:
    int8 = nudged(INT8, 0.02)
    people.publish(files(1))
    people.upload(files(2, int8=int8), 2)
    assert people.submit(2).is_success
    for approver in ("alice", "bob"):
        assert people.sign(approver).is_success
    targets = hub.repository.targets("digits")
    added = {path.removeprefix("models/digits/2/"): of for path, of in targets.items() if "/2/" in path}
    found = {name: parse_patch_name(name) for name in added}
    base = hashlib.sha256(INT8).hexdigest()
    name = patch_name("onnx-int8.onnx", PatchMethod.SUB8, base)
    assert name in found
    assert {each for each, patch in found.items() if patch is not None and patch.base is not None} == {name}
    size, digest = added[name]
    patch = hub.artifacts.read(digest)
    assert patch is not None
    assert len(patch) == size < 0.1 * len(int8)
    assert applied(patch, INT8, PatchMethod.SUB8, len(int8)) == int8
    shown = people.ok("viewer", "GET", "/v1/releases/digits/2")
    assert name in {file["filename"] for file in shown["files"]}


def test_what_takes_too_long_is_left_out_and_the_draft_opens(
    hub: Hub, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "BUILD_SECONDS", 0.001)
    people.publish(files(1))
    assert not any(parse_patch_name(path.rsplit("/", 1)[1]) for path in hub.repository.targets("digits"))


def test_the_hub_answers_while_patches_are_made(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    people.publish(files(1))
    people.upload(files(2, int8=nudged(INT8, 0.02)), 2)
    begun, go = threading.Event(), threading.Event()
    real = subprocess.run

    def run(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return real(*arguments, **options)

    monkeypatch.setattr(patches, "subprocess", SimpleNamespace(run=run, TimeoutExpired=TimeoutExpired))
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(people.submit, 2)
        assert begun.wait(20)
        people.ok("operator", "POST", "/v1/enrolment-tokens", json={"device": "cam-9"})
        assert not submitting.done(), "a write did not have to wait for the patches"
        go.set()
        assert submitting.result(timeout=30).is_success
