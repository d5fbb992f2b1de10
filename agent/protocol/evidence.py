"""What approvers read before they sign, as data (JSON artifacts of the release)."""

from typing import Literal

from msgspec import Struct

from agent.protocol.ids import Count, Name, Sha256
from agent.protocol.manifest import Fraction


class SliceResult(Struct, frozen=True, kw_only=True):
    """Accuracy on one slice of the held-out set, for instance one true class."""

    name: str
    rows: Count
    accuracy: Fraction


class Calibration(Struct, frozen=True, kw_only=True):
    """How far confidences can be believed (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

    bins: int
    expected_calibration_error: Fraction
    maximum_calibration_error: Fraction


class VariantEvaluation(Struct, frozen=True, kw_only=True):
    variant: Name
    rows: Count
    accuracy: Fraction
    slices: tuple[SliceResult, ...]
    calibration: Calibration
    robustness: dict[str, Fraction]
    """Corruption → accuracy under it."""


class Evaluation(Struct, frozen=True, kw_only=True):
    """Held-out results of every variant."""

    dataset: str
    dataset_sha256: Sha256
    variants: tuple[VariantEvaluation, ...]


class ScenarioResult(Struct, frozen=True, kw_only=True):
    """One MLPerf-style scenario (Reddi et al. 2020) of one variant; latencies in microseconds."""

    scenario: Literal["single-stream", "offline"]
    variant: Name
    queries: Count
    rows_per_query: int
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    rows_per_second: float


class VariantMemory(Struct, frozen=True, kw_only=True):
    variant: Name
    pss_mib: float
    peak_pss_mib: float


class BenchReport(Struct, frozen=True, kw_only=True):
    """What a release costs on one hardware class, measured there."""

    hardware_class: Name
    machine: str
    """CPU model, cores, kernel, in words."""
    packages: dict[str, str]
    model: Name
    artifacts: dict[Name, Sha256]
    """Variant → digest of the file that was measured."""
    scenarios: tuple[ScenarioResult, ...]
    memory: tuple[VariantMemory, ...]
