"""What a runner tells about itself: metadata, configuration, statistics, metrics, in the form of Triton's server."""

from collections.abc import Iterator
from typing import Any

from agent.protocol.manifest import TensorSpec
from agent.runner.service import ModelService
from agent.runner.statistics import Duration, InferenceStatistics

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)
"""Of Triton's extensions, those that every runner has."""

SHARED_MEMORY_EXTENSION = "system_shared_memory"
"""Only where the setting ``serving.shared_memory`` allows it."""

_BACKENDS = {"onnxruntime": ("onnxruntime_onnx", "onnxruntime")}
"""Library → Triton's ``platform`` and ``backend``; it has none for the others."""

_NONE = Duration(0, 0)


def server_metadata(version: str, *, shared_memory: bool) -> dict[str, Any]:
    """``GET /v2``; ``version``: of this program."""
    extensions = [*EXTENSIONS, SHARED_MEMORY_EXTENSION] if shared_memory else [*EXTENSIONS]
    return {"name": "edgeward", "version": version, "extensions": extensions}


def model_metadata(service: ModelService) -> dict[str, Any]:
    """``GET /v2/models/<model>``."""
    return {
        "name": service.model,
        "versions": [service.version],
        "platform": service.backend.describe(),
        "inputs": [_tensor(spec) for spec in service.contract.inputs],
        "outputs": [_tensor(spec) for spec in service.contract.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def model_config(service: ModelService) -> dict[str, Any]:
    """``GET /v2/models/<model>/config``.

    ``max_batch_size`` is 0, which in Triton's language means that ``dims`` are whole shapes, the rows' dimension with
    them: nothing here gathers requests into batches of a stated size.
    """
    library = service.backend.describe().partition(" ")[0]
    platform, backend = _BACKENDS.get(library, ("", library))
    return {
        "name": service.model,
        "platform": platform,
        "backend": backend,
        "version_policy": {"specific": {"versions": [int(service.version)]}},
        "max_batch_size": 0,
        "input": [_configured(spec) for spec in service.contract.inputs],
        "output": [_configured(spec) for spec in service.contract.outputs],
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape}


def model_statistics(service: ModelService) -> dict[str, Any]:
    """One entry of ``GET /v2/models/stats``, since this process's start.

    ``batch_stats`` is empty: nothing is counted by batch size.
    """
    counted = service.statistics.inference()
    return {
        "name": service.model,
        "version": service.version,
        "last_inference": counted.last_inference,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": _durations(counted),
        "batch_stats": [],
    }


def _durations(counted: InferenceStatistics) -> dict[str, Duration]:
    return {
        "success": counted.success,
        "fail": counted.fail,
        "queue": counted.queue,
        "compute_input": counted.compute_input,
        "compute_infer": counted.compute_infer,
        "compute_output": counted.compute_output,
        "cache_hit": _NONE,
        "cache_miss": _NONE,
    }


def index_entry(service: ModelService) -> dict[str, Any]:
    """One entry of ``POST /v2/repository/index``."""
    return {"name": service.model, "version": service.version, "state": "READY", "reason": ""}


def metrics(service: ModelService) -> bytes:
    """``GET /metrics``: one model, in Prometheus' text format; seconds and counts since this process's start."""
    labels = f'{{model="{service.model}",version="{service.version}"}}'
    lines = [
        line
        for name, told, value in _measured(service)
        for line in (
            f"# HELP edgeward_{name} {told}",
            f"# TYPE edgeward_{name} counter",
            f"edgeward_{name}{labels} {value}",
        )
    ]
    return ("\n".join(lines) + "\n").encode()


def _measured(service: ModelService) -> Iterator[tuple[str, str, float]]:
    counted = service.statistics.inference()
    yield "requests_succeeded_total", "Requests answered with the model's outputs.", counted.success.count
    yield "requests_failed_total", "Requests that failed by the model's fault.", counted.fail.count
    yield "requests_refused_total", "Requests refused by their sender's fault.", service.statistics.refusals
    yield (
        "requests_turned_away_total",
        "Requests not taken because too many waited.",
        service.statistics.rejections,
    )
    yield "rows_total", "Rows inferred.", counted.inference_count
    yield "runs_total", "Runs of the model.", counted.execution_count
    for name, told in _PARTS.items():
        yield f"{name}_seconds_total", told, getattr(counted, name).ns / 1e9


_PARTS = {
    "success": "Time of the requests that succeeded, from last byte to answer.",
    "queue": "Of it, before a request's turn.",
    "compute_input": "Of it, decoding and checks.",
    "compute_infer": "Of it, in the model.",
    "compute_output": "Of it, after the model.",
}
