"""Real data, real models: handwritten digits, crops of photographs, a table of measurements. Nothing is fetched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import load_breast_cancer, load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from agent.drift import SignalSpec, build_reference, signal_values
from agent.drift.binning import Floats
from agent.protocol.drift import DriftPolicy, Layout
from hw_bench.drift_study.corruptions import CLASS_WEIGHTS, PHOTOS, SMALL, Corrupt, image_corruptions
from models.description import read_description
from models.digits import data as digits
from models.digits.student import make_student
from models.digits.teacher import make_teacher
from models.evaluation import predictor
from models.network import FloatArray, IntArray

CROP = 32
CROPS = 6_000
TRAINING_CROPS = 1_500
_LOOKED_AT = [1, 4, 8]
"""Texture, smoothness, symmetry: with all thirty the model is hardly ever wrong."""

POLICY = DriftPolicy(window_rows=300, minimum_rows=300)


@dataclass(frozen=True, slots=True)
class Population:
    """Rows that windows are drawn from, as the device's own extractor sees them."""

    signals: Floats
    """Shape (rows, signals)."""
    scores: FloatArray
    """Shape (rows, classes): the model's output."""
    labels: IntArray
    """Shape (rows,)."""

    @property
    def correct(self) -> IntArray:
        """Shape (rows,), 0 or 1."""
        right: IntArray = (self.scores.argmax(axis=1) == self.labels).astype(np.int64)
        return right


@dataclass(frozen=True, slots=True)
class Subject:
    """One data set with its model."""

    name: str
    what: str
    """In words, for the page."""
    signals: tuple[str, ...]
    reference_rows: int
    clean: Population
    changed: Mapping[str, Mapping[str, Callable[[], Population]]]
    """Kind of change → strength → makes what comes then."""
    weights: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    """Kind of change → strength → weight of each clean row in the draw: the same rows, in another mix."""


@cache
def digits_subject() -> Subject:
    """8x8 scans and the int8 student of the digits recipe; no row that it was trained on."""
    with TemporaryDirectory() as folder:
        make_teacher(Path(folder) / "teacher")
        description = make_student(Path(folder) / "teacher", Path(folder) / "student")
        read_description(Path(folder) / "student")
        predict = predictor(Path(folder) / "student", description, description.variants[0])
    parts = digits.load()
    images = np.concatenate([parts.calibration.images, parts.held_out.images])
    labels = np.concatenate([parts.calibration.labels, parts.held_out.labels])

    def population(corrupt: Corrupt = _as_it_is) -> Population:
        changed = corrupt(images)
        scores = predict(changed)
        return Population(signals=_image_signals(changed, scores, "HW"), scores=scores, labels=labels)

    return Subject(
        name="digits",
        what=f"{len(labels)} scans of 8x8 pixels, 10 classes, the int8 student of the digits recipe",
        signals=_IMAGE_SIGNALS["HW"],
        reference_rows=457,
        clean=population(),
        changed={
            kind: {name: partial(population, corrupt) for name, corrupt in strengths.items()}
            for kind, strengths in image_corruptions(SMALL).items()
        },
        weights={"shifted classes": _class_weights(labels, 8)},
    )


@cache
def photos_subject() -> Subject:
    """Crops of two photographs in colour, and a logistic regression that tells which photograph they are from."""
    rng = np.random.default_rng(0)
    photographs = [np.asarray(image / 255, dtype=np.float32) for image in load_sample_images().images]
    training, training_labels = _crops(photographs, TRAINING_CROPS, rng)
    images, labels = _crops(photographs, CROPS, rng)
    model = _fitted(_small(training), training_labels)

    def population(corrupt: Corrupt = _as_it_is) -> Population:
        changed = corrupt(images)
        scores = model.predict_proba(_small(changed)).astype(np.float32)
        return Population(signals=_image_signals(changed, scores, "HWC"), scores=scores, labels=labels)

    return Subject(
        name="photos",
        what=f"{CROPS} crops of 32x32 pixels in colour from scikit-learn's two photographs, a logistic regression",
        signals=_IMAGE_SIGNALS["HWC"],
        reference_rows=1_000,
        clean=population(),
        changed={
            kind: {name: partial(population, corrupt) for name, corrupt in strengths.items()}
            for kind, strengths in image_corruptions(PHOTOS).items()
        },
        weights={"shifted classes": _class_weights(labels, 0)},
    )


@cache
def table_subject() -> Subject:
    """30 measurements of cells (Wisconsin, 1995), strongly correlated; the model looks at three and is often wrong."""
    loaded = load_breast_cancer()
    values, labels = loaded.data.astype(np.float32), loaded.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    training, rest = order[:169], order[169:]
    model = _fitted(values[training][:, _LOOKED_AT], labels[training])
    spread = values.std(axis=0)

    def population(changed: FloatArray) -> Population:
        scores = model.predict_proba(changed[:, _LOOKED_AT]).astype(np.float32)
        return Population(
            signals=np.concatenate([changed, _output_signals(scores)], axis=1),
            scores=scores,
            labels=labels[rest],
        )

    def shifted(deviations: float) -> Population:
        """The three sensors that the model looks at read too high."""
        changed = values[rest].copy()
        changed[:, _LOOKED_AT] += np.float32(deviations) * spread[_LOOKED_AT]
        return population(changed)

    names = tuple(str(name).replace(" ", "-") for name in loaded.feature_names)
    return Subject(
        name="table",
        what=f"{len(rest)} rows of 30 correlated measurements (breast cancer, Wisconsin), a logistic regression of three",
        signals=(*names, *_OUTPUT_SIGNALS),
        reference_rows=400,
        clean=population(values[rest]),
        changed={
            "three sensors read high": {
                f"by {share} deviations": partial(shifted, share) for share in (0.15, 0.25, 0.5, 1.0)
            }
        },
        weights={"shifted classes": _class_weights(labels[rest], 0)},
    )


SUBJECTS = {"digits": digits_subject, "photos": photos_subject, "table": table_subject}

_OUTPUT_SIGNALS = ("confidence", "entropy", "class")
_IMAGE_SIGNALS: dict[Layout, tuple[str, ...]] = {
    "HW": ("brightness", "contrast", "sharpness", "noise", *_OUTPUT_SIGNALS),
    "HWC": ("brightness", "contrast", "sharpness", "noise", "saturation", *_OUTPUT_SIGNALS),
}


def _image_signals(images: FloatArray, scores: FloatArray, layout: Layout) -> Floats:
    specs = [
        SignalSpec(name=name, source="input", tensor="image", summary=name, layout=layout)  # type: ignore[arg-type]  # names of summaries
        for name in _IMAGE_SIGNALS[layout][: -len(_OUTPUT_SIGNALS)]
    ]
    reference = build_reference(
        specs, inputs={"image": images}, outputs={}, dataset_sha256="0" * 64, policy=POLICY
    )
    return np.concatenate([signal_values(reference, {"image": images}, {}), _output_signals(scores)], axis=1)


def _output_signals(scores: FloatArray) -> Floats:
    specs = (
        SignalSpec(name="confidence", source="output", tensor="scores", summary="confidence"),
        SignalSpec(name="entropy", source="output", tensor="scores", summary="entropy"),
        SignalSpec(name="class", source="output", tensor="scores", summary="argmax"),
    )
    outputs = {"scores": scores}
    reference = build_reference(specs, inputs={}, outputs=outputs, dataset_sha256="0" * 64, policy=POLICY)
    return signal_values(reference, {}, outputs)


def _crops(
    photographs: list[FloatArray], count: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    labels = rng.integers(0, len(photographs), count)
    height, width, _ = photographs[0].shape
    tops, lefts = rng.integers(0, height - CROP, count), rng.integers(0, width - CROP, count)
    crops = [
        photographs[label][top : top + CROP, left : left + CROP]
        for label, top, left in zip(labels.tolist(), tops.tolist(), lefts.tolist(), strict=True)
    ]
    return np.stack(crops), labels.astype(np.int64)


def _small(images: FloatArray) -> FloatArray:
    """32x32 → 4x4 by averaging, all channels in one row."""
    blocks = images.reshape(len(images), 4, CROP // 4, 4, CROP // 4, images.shape[-1])
    result: FloatArray = blocks.mean(axis=(2, 4)).reshape(len(images), -1).astype(np.float32)
    return result


def _fitted(rows: FloatArray, labels: IntArray) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    with threadpool_limits(limits=1):
        return model.fit(rows, labels)


def _as_it_is(images: FloatArray) -> FloatArray:
    return images


def _class_weights(labels: IntArray, favoured: int) -> dict[str, Floats]:
    return {
        name: np.where(labels == favoured, times, 1.0).astype(np.float64)
        for name, times in CLASS_WEIGHTS.items()
    }
