from pathlib import Path

import pytest
from PIL import Image

from agent.protocol.evidence import BenchReport, ScenarioResult, VariantMemory
from hw_bench.plot import _number, draw


def _report(variants: int) -> BenchReport:
    names = [f"variant-{index}" for index in range(variants)]
    return BenchReport(
        hardware_class="camera",
        machine="a machine",
        packages={"onnxruntime": "1"},
        model="digits",
        artifacts=dict.fromkeys(names, "0" * 64),
        scenarios=tuple(
            ScenarioResult(
                scenario=scenario,
                variant=name,
                queries=10,
                rows_per_query=1,
                p50_us=10.0,
                p90_us=11.0,
                p95_us=12.0,
                p99_us=20.0,
                rows_per_second=1e6,
            )
            for name in names
            for scenario in ("single-stream", "offline")
        ),
        memory=tuple(VariantMemory(variant=name, pss_mib=40.0, peak_pss_mib=50.0) for name in names),
    )


@pytest.mark.parametrize("variants", [1, 2, 8])
def test_a_picture_for_any_number_of_variants(tmp_path: Path, variants: int) -> None:
    path = tmp_path / "bench.png"
    draw(_report(variants), path)
    with Image.open(path) as picture:
        assert picture.width == 11 * 160
        assert picture.height > 400
        # Ink of the first variant's colour is really there.
        assert (42, 111, 151) in {colour for _, colour in picture.convert("RGB").getcolors(2**24) or []}


def test_numbers_keep_three_figures() -> None:
    assert [_number(value) for value in (3.281, 64.02, 999.4, 1_000, 6_447_507)] == [
        "3.28",
        "64",
        "999",
        "1k",
        "6.45M",
    ]
