import math
from typing import Any

import pytest
from msgspec.structs import replace

from agent.core.judgement import Choice, choose_variant, judge_probe
from agent.protocol.manifest import (
    ArtifactRef,
    Budget,
    Evidence,
    GoldenRef,
    Lineage,
    Manifest,
    Probation,
    TensorSpec,
    Variant,
)
from agent.protocol.runner import ProbeReport
from agent.protocol.state import Reason, VariantPolicy

BUDGET = Budget(p99_ms=10.0, peak_memory_mib=64.0)
FILE = ArtifactRef(filename="golden.msgpack", sha256="a" * 64, size=1)
GOLDEN = GoldenRef(artifact=FILE, absolute_tolerance=0.125, minimum_class_agreement=0.75)
AT_THE_BOUNDS = ProbeReport(
    golden_max_error=0.125,
    golden_class_agreement=0.75,
    golden_rows=16,
    p50_ms=3.0,
    p99_ms=10.0,
    repetitions=200,
)


def judge(memory: float = 64.0, **changes: float) -> str | None:
    reason = judge_probe(replace(AT_THE_BOUNDS, **changes), memory, BUDGET, GOLDEN)
    return None if reason is None else reason.code


def test_what_is_exactly_at_every_bound_passes() -> None:
    assert judge() is None


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("golden_max_error", math.nextafter(0.125, 1), "golden-mismatch"),
        ("golden_class_agreement", math.nextafter(0.75, 0), "golden-mismatch"),
        ("p99_ms", math.nextafter(10, 11), "latency-over-budget"),
        ("golden_max_error", math.inf, "golden-mismatch"),
        ("p99_ms", math.inf, "latency-over-budget"),
        ("golden_max_error", math.nan, "golden-mismatch"),
        ("golden_class_agreement", math.nan, "golden-mismatch"),
        ("p99_ms", math.nan, "latency-over-budget"),
    ],
)
def test_a_hair_over_a_bound_or_no_number_is_refused(field: str, value: float, code: str) -> None:
    assert judge(**{field: value}) == code


@pytest.mark.parametrize("memory", [math.nextafter(64, 65), math.inf, math.nan])
def test_memory_over_the_budget_or_unknown_is_refused(memory: float) -> None:
    assert judge(memory=memory) == "memory-over-budget"


def test_correctness_is_judged_before_latency_and_latency_before_memory() -> None:
    assert judge(memory=99.0, golden_max_error=1.0, p99_ms=99.0) == "golden-mismatch"
    assert judge(memory=99.0, p99_ms=99.0) == "latency-over-budget"


def test_reasons_carry_the_figures() -> None:
    texts = {
        reason.code: reason.text
        for changes, memory in (({"golden_max_error": 0.5}, 1.0), ({"p99_ms": 12.5}, 1.0), ({}, 70.0))
        if (reason := judge_probe(replace(AT_THE_BOUNDS, **changes), memory, BUDGET, GOLDEN)) is not None
    }
    assert "0.5" in texts["golden-mismatch"]
    assert "0.125" in texts["golden-mismatch"]
    assert "16 rows" in texts["golden-mismatch"]
    assert "12.5 ms over 200 inferences" in texts["latency-over-budget"]
    assert "the budget is 10 ms" in texts["latency-over-budget"]
    assert texts["memory-over-budget"] == "peak memory is 70.0 MiB, the budget is 64.0 MiB"
    agreement = judge_probe(replace(AT_THE_BOUNDS, golden_class_agreement=0.5), 1.0, BUDGET, GOLDEN)
    assert agreement is not None
    assert "50.0% of 16 rows" in agreement.text
    assert "75.0%" in agreement.text


# --- variants ----------------------------------------------------------------------------------------------------


def variant(name: str, runtime: Any, size: int, accuracy: float) -> Variant:
    return Variant(
        name=name,
        artifact=ArtifactRef(filename=f"{name}.bin", sha256="b" * 64, size=size),
        runtime=runtime,
        precision="int8",
        accuracy=accuracy,
    )


def manifest(*variants: Variant) -> Manifest:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
    return Manifest(
        schema=1,
        model="digits",
        release=1,
        created=0.0,
        author="ann",
        summary="",
        task="classification",
        labels=("a", "b"),
        inputs=(tensor,),
        outputs=(tensor,),
        preprocessing="none",
        variants=variants,
        budgets={"cpu": BUDGET, "arm": BUDGET},
        golden=GOLDEN,
        drift_reference=FILE,
        probation=Probation(),
        evidence=Evidence(card=FILE, evaluation=FILE, bench=(FILE,)),
        lineage=Lineage(datasets={}, recipe="r", code_version="0", packages={}),
    )


BIG = variant("big", "onnx", 400, 0.99)
SMALL = variant("small", "onnx", 100, 0.97)
LITE = variant("lite", "tflite", 50, 0.96)
BOTH = frozenset({"onnx", "tflite"})
ACCURATE, SMALLEST = VariantPolicy.MOST_ACCURATE, VariantPolicy.SMALLEST


def choose(
    *variants: Variant,
    runtimes: frozenset[str] = BOTH,
    hardware_class: str = "cpu",
    policy: VariantPolicy = ACCURATE,
    tried: tuple[str, ...] = (),
) -> str:
    """Name of the variant chosen, or ``!code``."""
    choice = choose_variant(
        manifest(*variants), runtimes=runtimes, hardware_class=hardware_class, policy=policy, tried=tried
    )
    return f"!{choice.code}" if isinstance(choice, Reason) else choice.variant.name


def test_policy_decides_between_what_runs_here_and_was_not_refused() -> None:
    assert choose(LITE, SMALL, BIG) == "big"
    assert choose(LITE, SMALL, BIG, policy=SMALLEST) == "lite"
    assert choose(LITE, SMALL, BIG, tried=("big",)) == "small"
    assert choose(LITE, SMALL, BIG, policy=SMALLEST, runtimes=frozenset({"onnx"})) == "small"


def test_ties_go_to_the_other_figure_and_then_to_the_name() -> None:
    same_accuracy = (variant("a", "onnx", 200, 0.9), variant("b", "onnx", 100, 0.9))
    same_size = (variant("a", "onnx", 100, 0.8), variant("b", "onnx", 100, 0.9))
    twins = (variant("b", "onnx", 100, 0.9), variant("a", "onnx", 100, 0.9))
    assert choose(*same_accuracy) == "b"
    assert choose(*same_size, policy=SMALLEST) == "b"
    assert choose(*twins) == choose(*reversed(twins)) == choose(*twins, policy=SMALLEST) == "a"


def chosen(*variants: Variant, policy: VariantPolicy = ACCURATE, tried: tuple[str, ...] = ()) -> Choice:
    choice = choose_variant(
        manifest(*variants), runtimes=BOTH, hardware_class="cpu", policy=policy, tried=tried
    )
    assert isinstance(choice, Choice)
    return choice


@pytest.mark.parametrize(
    ("variants", "policy", "tried", "standby"),
    [
        ((BIG, SMALL, LITE), ACCURATE, (), "lite"),
        ((BIG, SMALL, LITE), ACCURATE, ("lite",), "small"),
        ((BIG, SMALL), ACCURATE, ("big",), None),
        ((BIG, SMALL, LITE), SMALLEST, (), None),
        ((BIG,), ACCURATE, (), None),
        ((BIG, variant("twin", "onnx", 400, 0.9)), ACCURATE, (), None),
    ],
)
def test_the_standby_is_the_smallest_that_was_not_refused_and_is_smaller(
    variants: tuple[Variant, ...], policy: VariantPolicy, tried: tuple[str, ...], standby: str | None
) -> None:
    found = chosen(*variants, policy=policy, tried=tried).standby
    assert (found and found.name) == standby


def test_a_choice_says_what_it_was_chosen_among() -> None:
    assert chosen(BIG, SMALL, LITE).reason == Reason(
        code="most-accurate",
        text="big (accuracy 0.99, 400 bytes) is the most accurate of 3 variants that run here",
    )
    without = chosen(BIG, SMALL, LITE, tried=("small", "big")).reason.text
    assert without.endswith("of 3 variants that run here, without those refused before it: big, small")
    assert chosen(BIG, LITE, policy=SMALLEST).reason.text.startswith(
        "lite (accuracy 0.96, 50 bytes) is the smallest of 2"
    )
    assert chosen(BIG).reason.text.endswith("is the only variant that runs here")


def test_every_way_of_having_none_says_why() -> None:
    assert choose(BIG, hardware_class="riscv") == "!no-budget"
    assert choose(BIG, runtimes=frozenset({"tflite"})) == "!no-variant"
    assert choose(BIG, runtimes=frozenset()) == "!no-variant"
    assert choose(BIG, LITE, runtimes=frozenset({"onnx"}), tried=("big",)) == "!variants-exhausted"


def test_having_none_names_what_there_is() -> None:
    def text(**how: Any) -> str:
        usual: dict[str, Any] = {"runtimes": BOTH, "hardware_class": "cpu", "policy": ACCURATE, "tried": ()}
        choice = choose_variant(manifest(BIG, LITE), **{**usual, **how})
        assert isinstance(choice, Reason)
        return choice.text

    assert text(hardware_class="riscv").endswith("it has: arm, cpu")
    assert text(runtimes=frozenset()).endswith("of: onnx, tflite; this device has: none")
    assert text(tried=("big", "lite")).endswith("big, lite")
