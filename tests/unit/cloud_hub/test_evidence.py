"""What is missing or speaks against a release stops it, and the refusal names it."""

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from agent.protocol.manifest import Budget, Manifest
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import VARIANTS, bench, evaluation, release_files

replace = msgspec.structs.replace


def without_int8_evaluation(files: dict[str, bytes]) -> None:
    files["evaluation.json"] = msgspec.json.encode(evaluation(("onnx-fp32",)))


def without_slices(files: dict[str, bytes]) -> None:
    found = evaluation()
    bare = tuple(replace(variant, slices=()) for variant in found.variants)
    files["evaluation.json"] = msgspec.json.encode(replace(found, variants=bare))


def empty_card(files: dict[str, bytes]) -> None:
    files["card.md"] = b" \n"


def bench_of_other_bytes(files: dict[str, bytes]) -> None:
    digests = dict.fromkeys(VARIANTS, hashlib.sha256(b"other").hexdigest())
    files["bench.json"] = msgspec.json.encode(bench(digests, dict.fromkeys(VARIANTS, 10.0)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_int8_evaluation, "no evaluation of variant onnx-int8"),
        (without_slices, "not evaluated by slices"),
        (empty_card, "card is empty"),
        (bench_of_other_bytes, "not this release's file"),
        (lambda files: files.update({"evaluation.json": b"{}"}), "evaluation.json"),
    ],
)
def test_evidence_that_is_missing_or_wrong(
    people: People, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    people.upload(release_files(change=change))
    refused = people.submit()
    assert refused.status_code == 422
    assert said in refused.json()["detail"]


def test_int8_slower_than_fp32_on_the_same_board_is_refused(people: People) -> None:
    people.upload(release_files(p50_us={"onnx-fp32": 10.0, "onnx-int8": 12.5}))
    refused = people.submit()
    assert refused.status_code == 422
    assert "12.5" in refused.json()["detail"]


def test_a_declared_hardware_class_without_a_bench_is_refused(people: People) -> None:
    def declare(manifest: Manifest) -> Manifest:
        budget = Budget(p99_ms=100, peak_memory_mib=500)
        return replace(manifest, budgets={**manifest.budgets, "rpi5": budget})

    people.upload(release_files(rewrite=declare))
    assert "rpi5" in people.submit().json()["detail"]


def test_no_dataset_in_the_lineage_is_refused(people: People) -> None:
    def forget(manifest: Manifest) -> Manifest:
        return replace(manifest, lineage=replace(manifest.lineage, datasets={}))

    people.upload(release_files(rewrite=forget))
    assert "lineage.datasets" in people.submit().json()["detail"]


def test_files_must_be_those_of_the_manifest(people: People) -> None:
    files = release_files()
    people.upload({**files, "onnx-int8.onnx": b"other bytes"})
    assert "onnx-int8.onnx" in people.submit().json()["detail"]
    people.upload({"onnx-int8.onnx": files["onnx-int8.onnx"], "stray.bin": b"x"})
    assert "stray.bin" in people.submit().json()["detail"]


def test_a_manifest_field_of_a_newer_version_is_refused_by_name(people: People) -> None:
    files = release_files()
    manifest = msgspec.json.decode(files["manifest.json"])
    files["manifest.json"] = msgspec.json.encode({**manifest, "quantum": True})
    people.upload(files)
    refused = people.submit()
    assert refused.status_code == 422
    assert "quantum" in refused.json()["detail"]
