"""``python -m tests.property.cloud_hub.measure_outliers``: how often an honest device is left out, in fleets that differ."""

import sys

import numpy as np

from cloud_hub.telemetry.fleet_verdict import merge_fleet
from tests.support.drift_fleets import honest, reference

FLEETS = 200
SIGNALS = (1, 8, 32)
DEVICES = (10, 100)
LIKENESS = {"as if drawn from one": 1e9, "a little (300)": 300.0, "much (50)": 50.0, "very much (15)": 15.0}
"""Of the Dirichlet distribution from which each device's own is drawn: the less, the more devices differ."""


def rate(signals: int, devices: int, likeness: float) -> tuple[int, int, int]:
    """Honest devices left out, all devices, and fleets whose level is another one with and without robustness."""
    signed, generator = reference(signals), np.random.default_rng(11)
    out = other = 0
    for _ in range(max(10, FLEETS * 10 // devices)):
        parts = honest(
            signed, devices, generator, likeness=likeness, rows=lambda: int(generator.integers(300, 2_000))
        )
        verdict = merge_fleet(signed, parts).verdict
        if verdict is None:
            raise AssertionError("no verdict")
        out += len(verdict.left_out)
        other += verdict.level != verdict.raw.level
    return out, max(10, FLEETS * 10 // devices) * devices, other


def main() -> None:
    say = sys.stdout.write
    say(
        "| devices differ | devices | signals | honest devices left out | verdicts changed by it |\n|---|---:|---:|---:|---:|\n"
    )
    for name, likeness in LIKENESS.items():
        for devices in DEVICES:
            for signals in SIGNALS:
                out, of, other = rate(signals, devices, likeness)
                say(f"| {name} | {devices} | {signals} | {out / of:.2%} of {of:,} | {other} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
