"""Releases that are bad in a way that only running shows, for rehearsals of what devices must refuse.

The model files change; golden vectors, drift reference, evaluation and card stay those of the good release, and a
bench report is re-addressed to the changed files: the papers are in order, and they lie. Only ``package`` and
approvers' signatures turn such a folder into a release, as with any other.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from agent.protocol.codec import decode_json, decode_msgpack
from agent.protocol.evidence import BenchReport
from agent.protocol.golden import GoldenVectors
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.limits import MAX_MANIFEST_BYTES
from models.description import (
    DESCRIPTION_FILENAME,
    GOLDEN_FILENAME,
    Description,
    VariantFile,
    read_description,
    sha256_of,
    write_json,
)
from models.errors import ReleaseFolderError, UnsupportedGraphError
from models.evaluation import load_variant
from models.fault_graphs import delay_onnx, swap_onnx_classes, swap_tflite_classes
from models.fault_kinds import FaultKind

SWAPPED = (3, 8)
"""Classes whose output weights change places."""
TRIAL_ROUNDS = 20
HEADROOM = 1.3
"""So that a core that is a little faster than it was while the file was made still takes long enough."""


def make_fault(kind: FaultKind, source: Path, folder: Path, *, delay_ms: float = 500.0) -> Description:
    """Copy a release folder and spoil its model files.

    Args:
        kind: ``wrong-outputs`` swaps the output weights of two classes. ``too-slow`` adds matrix products whose
            result is multiplied by zero; only ONNX variants are kept, since a device would try the others next.
        source: a good release folder.
        folder: where the bad one is written; it must not hold a release yet.
        delay_ms: least time of one inference of one row on this machine, for ``too-slow``.

    Raises:
        ReleaseFolderError: ``source`` is no release folder, or ``folder`` already is one.
        UnsupportedGraphError: a model file has not the layers that are to be changed.
    """
    description = read_description(source)
    if (folder / DESCRIPTION_FILENAME).exists():
        raise ReleaseFolderError(f"{folder} already holds a release; choose an empty folder")
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILENAME))
    if kind == "wrong-outputs":
        for variant in description.variants:
            _rewrite(folder / variant.filename, _SWAPS[variant.runtime])
        bad = description
    else:
        bad = _slow_down(folder, description, delay_ms)
    bad = msgspec.structs.replace(
        bad, recipe=f"python -m models digits fault --kind {kind} --from DIR --out DIR"
    )
    _readdress_bench(folder, bad)
    write_json(folder / DESCRIPTION_FILENAME, bad)
    return bad


def _swap_onnx(payload: bytes) -> bytes:
    return swap_onnx_classes(payload, *SWAPPED)


def _swap_tflite(payload: bytes) -> bytes:
    return swap_tflite_classes(payload, *SWAPPED)


_SWAPS: dict[str, Callable[[bytes], bytes]] = {"onnx": _swap_onnx, "tflite": _swap_tflite}


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _slow_down(folder: Path, description: Description, delay_ms: float) -> Description:
    kept = tuple(variant for variant in description.variants if variant.runtime == "onnx")
    if not kept:
        raise UnsupportedGraphError("too-slow needs an ONNX variant, this release has none")
    for variant in description.variants:
        if variant not in kept:
            (folder / variant.filename).unlink()
    for variant in kept:
        good = (folder / variant.filename).read_bytes()
        _rewrite(folder / variant.filename, lambda payload: delay_onnx(payload, rounds=TRIAL_ROUNDS))
        per_round = _least_ms(folder, description, variant) / TRIAL_ROUNDS
        rounds = max(TRIAL_ROUNDS, round(HEADROOM * delay_ms / per_round))
        (folder / variant.filename).write_bytes(delay_onnx(good, rounds=rounds))
    return msgspec.structs.replace(description, variants=kept)


def _least_ms(folder: Path, description: Description, variant: VariantFile, *, tries: int = 5) -> float:
    """The shortest of a few inferences of one golden row: what the machine needs when nothing disturbs it."""
    golden: GoldenVectors = decode_msgpack((folder / GOLDEN_FILENAME).read_bytes(), GoldenVectors)
    feed = {
        tensor.name: np.frombuffer(tensor.data, dtype="<f4").reshape(tensor.shape)[:1]
        for tensor in golden.inputs
    }
    backend = load_variant(folder, description, variant)
    spent: list[float] = []
    for _ in range(tries):
        started = time.perf_counter()
        backend.infer(feed)
        spent.append(time.perf_counter() - started)
    return 1000.0 * min(spent)


def _readdress_bench(folder: Path, description: Description) -> None:
    digests = {variant.name: sha256_of(folder / variant.filename) for variant in description.variants}
    for path in sorted(folder.glob("bench-*.json")):
        report = decode_json(path.read_bytes(), BenchReport, limit=MAX_MANIFEST_BYTES)
        write_json(
            path,
            msgspec.structs.replace(
                report,
                artifacts=digests,
                scenarios=tuple(entry for entry in report.scenarios if entry.variant in digests),
                memory=tuple(entry for entry in report.memory if entry.variant in digests),
            ),
        )
