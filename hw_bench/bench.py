"""Runs one fresh process per variant, one after the other, and puts their results into one report."""

import os
import subprocess
import sys
from collections.abc import Callable

import msgspec

from agent.protocol.evidence import BenchReport
from hw_bench.child import ChildRequest, ChildResult
from hw_bench.errors import MeasurementError
from hw_bench.machine import machine
from hw_bench.scenarios import Effort
from hw_bench.subject import Subject, SubjectVariant

TIMEOUT_SLACK_SECONDS = 60.0
"""For starting Python and loading the model, beyond what the scenarios may take."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""As the agent starts its runners."""


def run_bench(
    subject: Subject,
    *,
    hardware_class: str,
    effort: Effort,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Measure every variant.

    Args:
        subject: what is measured.
        hardware_class: what the fleet calls machines like this one.
        effort: how long.
        threads: threads inside one operator.
        progress: told the name of each variant before it starts.

    Raises:
        MeasurementError: a variant's process failed or did not end.
    """
    results: dict[str, ChildResult] = {}
    for variant in subject.variants:
        progress(variant.name)
        results[variant.name] = _measure(subject, variant, effort, threads)
    return BenchReport(
        hardware_class=hardware_class,
        machine=machine(),
        packages=dict(_package(result.backend) for result in results.values()),
        model=subject.model,
        artifacts={name: result.sha256 for name, result in results.items()},
        scenarios=tuple(scenario for result in results.values() for scenario in result.scenarios),
        memory=tuple(result.memory for result in results.values()),
    )


def _measure(subject: Subject, variant: SubjectVariant, effort: Effort, threads: int) -> ChildResult:
    request = ChildRequest(
        variant=variant,
        inputs=subject.inputs,
        outputs=subject.outputs,
        golden=subject.golden,
        threads=threads,
        effort=effort,
    )
    limit = 2 * (effort.warm_up_seconds + effort.most_seconds) + TIMEOUT_SLACK_SECONDS
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "hw_bench.child"],
            input=msgspec.json.encode(request),
            capture_output=True,
            env={**os.environ, **ONE_THREAD},
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{variant.name}: no result within {limit:.0f} s") from None
    if answer.returncode != 0:
        words = answer.stderr.decode(errors="replace").strip().splitlines()
        last = words[-1] if words else "it said nothing"
        raise MeasurementError(f"{variant.name}: its process ended with {answer.returncode}: {last}")
    return msgspec.json.decode(answer.stdout, type=ChildResult)


def _package(backend: str) -> tuple[str, str]:
    name, _, version = backend.partition(" ")
    return name, version
