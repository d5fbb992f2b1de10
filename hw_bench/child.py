"""The process that measures one variant: JSON in on stdin, JSON out on stdout, nothing shared with other variants."""

import hashlib
import sys
from pathlib import Path

import msgspec
import numpy as np
import psutil
from msgspec import Struct

from agent.protocol.codec import decode_msgpack
from agent.protocol.evidence import ScenarioResult, VariantMemory
from agent.protocol.golden import GoldenVectors
from agent.protocol.manifest import TensorSpec
from agent.runner.backends import DTYPES, Array, open_backend
from hw_bench.scenarios import Effort, offline, single_stream
from hw_bench.subject import SubjectVariant

MIB = 2**20
_HIGH_WATER = "VmHWM:"


class ChildRequest(Struct, frozen=True, kw_only=True):
    """What to measure."""

    variant: SubjectVariant
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: str
    threads: int
    effort: Effort


class ChildResult(Struct, frozen=True, kw_only=True):
    """What was measured."""

    backend: str
    """Library and version, for instance ``onnxruntime 1.22.0``."""
    sha256: str
    """Of the file that was loaded."""
    scenarios: tuple[ScenarioResult, ...]
    memory: VariantMemory


def measure(request: ChildRequest) -> ChildResult:
    """Load the variant and run both scenarios in this process."""
    variant = request.variant
    digest = hashlib.sha256(Path(variant.path).read_bytes()).hexdigest()
    backend = open_backend(
        variant.runtime,
        Path(variant.path),
        inputs=request.inputs,
        outputs=request.outputs,
        threads=request.threads,
        sha256=digest,
    )
    samples = _samples(Path(request.golden))
    backend.infer({name: values[:1] for name, values in samples.items()})
    loaded = pss_mib()
    scenarios = (
        single_stream(backend, samples, request.effort, variant.name),
        offline(backend, samples, request.effort, variant.name),
    )
    memory = VariantMemory(variant=variant.name, pss_mib=loaded, peak_pss_mib=max(loaded, peak_pss_mib()))
    return ChildResult(backend=backend.describe(), sha256=digest, scenarios=scenarios, memory=memory)


def _samples(path: Path) -> dict[str, Array]:
    golden: GoldenVectors = decode_msgpack(path.read_bytes(), GoldenVectors)
    return {
        tensor.name: np.frombuffer(tensor.data, dtype=DTYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor in golden.inputs
    }


def pss_mib() -> float:
    """Proportional set size of this process, MiB."""
    return float(psutil.Process().memory_full_info().pss) / MIB


def peak_pss_mib() -> float:
    """Highest PSS so far, MiB: the PSS now, and what the resident set has lost since its highest mark.

    The kernel keeps a high-water mark of RSS only. What was given back since then is taken for private, which can
    only overstate the peak.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(_HIGH_WATER):
            highest = float(line.split()[1]) * 1024
            lost = max(0.0, highest - float(psutil.Process().memory_info().rss))
            return pss_mib() + lost / MIB
    return pss_mib()


def main() -> int:
    """Answer one request."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=ChildRequest)
    sys.stdout.buffer.write(msgspec.json.encode(measure(request)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
