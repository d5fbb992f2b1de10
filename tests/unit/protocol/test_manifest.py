"""The manifest is strict: what is not understood is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.protocol.errors import MalformedMessageError, MessageTooLargeError, NewerSchemaError
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import Manifest, decode_manifest

GOLDEN = Path(__file__).parents[2] / "contract" / "protocol" / "golden" / "manifest.json"


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    manifest = json.loads(GOLDEN.read_text())
    change(manifest)
    return json.dumps(manifest).encode()


def refused(payload: bytes) -> str:
    with pytest.raises(MalformedMessageError) as refusal:
        decode_manifest(payload)
    return str(refusal.value)


def good() -> Manifest:
    return decode_manifest(GOLDEN.read_bytes())


def test_an_unknown_field_of_this_schema_is_refused_by_name() -> None:
    assert "`colour`" in refused(changed(lambda m: m.update(colour="red")))
    message = refused(changed(lambda m: m["variants"][0].update(sparsity=0.5)))
    assert "`sparsity`" in message
    assert "$.variants[0]" in message
    assert "`warmup`" in refused(changed(lambda m: m["probation"].update(warmup=3)))


def test_a_newer_schema_is_refused_as_newer_whatever_else_it_holds() -> None:
    def newer(manifest: dict[str, Any]) -> None:
        manifest.update(schema=2, colour="red", variants="elsewhere")

    with pytest.raises(NewerSchemaError, match=r"schema 2 is newer than 1, .*update Edgeward first"):
        decode_manifest(changed(newer))


@pytest.mark.parametrize("schema", [0, -1, "1", None])
def test_no_other_schema_passes(schema: object) -> None:
    assert "schema" in refused(changed(lambda m: m.update(schema=schema)))


def test_a_missing_field_is_named() -> None:
    assert "`golden`" in refused(changed(lambda m: m.pop("golden")))
    assert "`p99_ms`" in refused(changed(lambda m: m["budgets"]["cpu-x86-64"].pop("p99_ms")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(release=0), "$.release"),
        (lambda m: m.update(model="../etc"), "$.model"),
        (lambda m: m.update(task="detection"), "'detection'"),
        (lambda m: m.update(inputs=[]), "$.inputs"),
        (lambda m: m.update(variants=[]), "$.variants"),
        (lambda m: m.update(budgets={}), "$.budgets"),
        (lambda m: m["variants"][0].update(accuracy=1.5), "$.variants[0].accuracy"),
        (lambda m: m["variants"][0]["artifact"].update(filename="../x"), "$.variants[0].artifact.filename"),
        (lambda m: m["variants"][0]["artifact"].update(filename="x.onnx\n"), "artifact.filename"),
        (lambda m: m["variants"][0]["artifact"].update(size=0), "$.variants[0].artifact.size"),
        (lambda m: m["drift_reference"].update(sha256="A" * 64), "$.drift_reference.sha256"),
        (lambda m: m["inputs"][0].update(shape=[-2]), "$.inputs[0].shape[0]"),
        (lambda m: m["inputs"][0].update(shape=[1] * 9), "$.inputs[0].shape"),
        (lambda m: m["golden"].update(absolute_tolerance=-1), "$.golden.absolute_tolerance"),
        (lambda m: m["probation"].update(requests=0), "$.probation.requests"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(change: Callable[[dict[str, Any]], None], said: str) -> None:
    assert said in refused(changed(change))


def test_a_budget_must_cost_something() -> None:
    assert "budgets" in refused(changed(lambda m: m["budgets"]["cpu-x86-64"].update(p99_ms=0)))


def twice(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        where: Any = manifest
        for part in path:
            where = where[part]
        where.append(where[0])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (twice("inputs"), "inputs must differ, these stand twice: image"),
        (twice("outputs"), "outputs must differ, these stand twice: scores"),
        (twice("variants"), "file names must differ, these stand twice: student.onnx"),
        (twice("evidence", "bench"), "file names must differ, these stand twice: bench.json"),
        (
            lambda m: m["evidence"]["card"].update(filename="student.onnx"),
            "file names must differ, these stand twice: student.onnx",
        ),
    ],
)
def test_names_that_stand_twice_are_refused(change: Callable[[dict[str, Any]], None], said: str) -> None:
    assert said in refused(changed(change))


def test_two_variants_of_one_name_are_refused() -> None:
    def change(manifest: dict[str, Any]) -> None:
        first = manifest["variants"][0]
        second = {**first, "artifact": {**first["artifact"], "filename": "other.onnx"}}
        manifest["variants"].append(second)

    assert "variants must differ, these stand twice: onnx-int8" in refused(changed(change))


def test_a_manifest_over_its_limit_is_refused() -> None:
    with pytest.raises(MessageTooLargeError, match=f"at most {MAX_MANIFEST_BYTES} are allowed"):
        decode_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


def test_every_file_is_listed_once_in_a_fixed_order() -> None:
    names = [artifact.filename for artifact in good().artifacts()]
    assert names == [
        "student.onnx",
        "golden.msgpack",
        "reference.json",
        "card.md",
        "evaluation.json",
        "bench.json",
    ]


def test_a_variant_is_found_by_its_name() -> None:
    assert good().variant("onnx-int8").precision == "int8"
    with pytest.raises(KeyError, match="tflite-int8"):
        good().variant("tflite-int8")


def test_a_probation_that_could_never_end_is_refused() -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["probation"].update(minimum_seconds=601.0, maximum_seconds=600.0)

    assert "probation.minimum_seconds is 601, over maximum_seconds, 600" in refused(changed(change))
