"""References of tables, sound and embeddings, from data that packages bring along."""

from collections.abc import Callable
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_diabetes

from agent.drift import Identity, WindowBuilder, encode_reference
from agent.protocol.drift import DriftReference
from models.errors import DriftReferenceError
from models.reference.build import Rows, make_reference
from models.reference.components import principal_components
from models.reference.declaration import Declaration, parse_declaration
from models.reference.summary import show, warnings

PATIENTS = """
[signals.age]
summary = "value"
column = "age"

[signals.sex]
summary = "category"
column = "sex"

[signals.bmi]
summary = "value"
column = "bmi"
spacing = "quantile"

[policy]
window_rows = 300
"""


def _declared(text: str) -> Declaration:
    return parse_declaration(text, source="signals.toml")


def _patients() -> Rows:
    loaded = load_diabetes(scaled=False)
    return Rows(
        inputs={"features": loaded.data.astype(np.float32)},
        outputs={},
        sha256="0" * 64,
        columns=tuple(loaded.feature_names),
    )


def _level(reference: DriftReference, inputs: dict[str, np.ndarray]) -> str:
    builder = WindowBuilder(Identity(model="m", release=1, deployment="d", artifact="0" * 64), reference)
    builder.add(inputs, {}, 1.0)
    closed = builder.close(2.0)
    assert closed is not None
    return closed.window.verdict.level


def test_a_table_with_a_category_is_counted_and_a_change_of_it_is_seen() -> None:
    rows = _patients()
    reference = make_reference(_declared(PATIENTS), rows)
    age, sex, bmi = reference.signals
    assert sex.categories == (1, 2)
    assert sex.counts == (0, 235, 207, 0)  # as scikit-learn's description of the data has them
    assert max(bmi.counts) < 1.3 * 442 / 10  # quantiles share the rows out
    assert age.index == 0
    features = rows.inputs["features"]
    assert _level(reference, {"features": features}) == "ok"
    women = features[features[:, 1] == 2]
    assert _level(reference, {"features": np.concatenate([women, women])}) == "drift"


def test_declared_categories_leave_the_rest_to_other() -> None:
    text = PATIENTS.replace('column = "sex"', 'column = "sex"\ncategories = [2]')
    sex = make_reference(_declared(text), _patients()).signals[1]
    assert sex.categories == (2,)
    assert sex.counts == (0, 207, 235)


def test_of_many_categories_the_most_frequent_are_known() -> None:
    codes = np.repeat([9, 4, 7, 1, 3], [200, 5, 150, 3, 100])
    text = '[signals.site]\nsummary = "category"\nindex = 0\nbins = 3\n'
    rows = Rows(inputs={"x": codes[:, None].astype(np.float32)}, outputs={}, sha256="0" * 64)
    site = make_reference(_declared(text), rows).signals[0]
    assert site.categories == (3, 7, 9)
    assert site.counts == (0, 100, 150, 200, 8)


def _sound(pitch: float, rows: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(2_000) / 8_000
    tones = np.sin(2 * np.pi * (pitch + 20 * rng.normal(size=(rows, 1))) * time)
    return (tones * rng.uniform(0.3, 1.2, (rows, 1)) + 0.05 * rng.normal(size=tones.shape)).astype(np.float32)


def test_sound_is_summarised_and_another_pitch_is_seen() -> None:
    declaration = _declared(
        "".join(
            f'[signals.{name}]\nsummary = "{name}"\n'
            for name in ("rms", "spectral-centroid", "spectral-flatness")
        )
        + '[signals.clipped]\nsummary = "clipping"\nfull_scale = 1.0\n[policy]\nwindow_rows = 400\n'
    )
    rows = Rows(inputs={"wave": _sound(200)}, outputs={}, sha256="0" * 64)
    reference = make_reference(declaration, rows)
    assert [signal.tensor for signal in reference.signals] == ["wave"] * 4
    assert _level(reference, {"wave": _sound(200)}) == "ok"
    assert _level(reference, {"wave": _sound(400)}) == "drift"


def test_components_are_the_directions_of_largest_variance_always_with_the_same_sign() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3)) * [1.0, 10.0, 3.0] + 7
    components = principal_components("input", "x", rows, 2)
    vectors = np.frombuffer(components.vectors, "<f4").reshape(2, 3)
    np.testing.assert_allclose(vectors, [[0, 1, 0], [0, 0, 1]], atol=0.05)
    np.testing.assert_allclose(np.frombuffer(components.mean, "<f4"), rows.mean(axis=0), rtol=1e-5)
    assert principal_components("input", "x", 14 - rows, 2).vectors == pytest.approx(components.vectors)


def test_an_embeddings_projections_are_signals_and_a_moved_embedding_is_seen() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(500, 16)).astype(np.float32) * np.linspace(5, 1, 16, dtype=np.float32)
    declaration = _declared('[signals.embedding]\nsummary = "projection"\ncomponents = 3\n')
    reference = make_reference(declaration, Rows(inputs={"x": embeddings}, outputs={}, sha256="0" * 64))
    assert [signal.name for signal in reference.signals] == ["embedding-0", "embedding-1", "embedding-2"]
    assert _level(reference, {"x": embeddings}) == "ok"
    moved = embeddings.copy()
    moved[:, 0] += 5
    assert _level(reference, {"x": moved}) == "drift"


SCORES = '[signals.sure]\nsummary = "confidence"\n[signals.class]\nsummary = "argmax"\n'


def _classified(rows: int = 600, *, classes: int = 2) -> Rows:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, rows)
    labels = rng.integers(0, 2, rows)
    right = rng.uniform(0, 1, rows) < confidence
    answers = np.where(right, labels, 1 - labels)
    scores = np.where(answers[:, None] == np.arange(2), confidence[:, None], 1 - confidence[:, None])
    return Rows(
        inputs={"x": np.zeros((rows, 1), dtype=np.float32)},
        outputs={"scores": scores[:, :classes]},
        sha256="0" * 64,
        labels=labels,
    )


def test_labels_calibrate_the_confidence_signal() -> None:
    rows = _classified()
    reference = make_reference(_declared(SCORES), rows)
    assert reference.calibration is not None
    assert (reference.calibration.signal, reference.calibration.problem) == ("sure", None)
    assert rows.labels is not None
    correct = int((rows.outputs["scores"].argmax(axis=1) == rows.labels).sum())
    assert (sum(reference.calibration.rows), sum(reference.calibration.correct)) == (600, correct)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PATIENTS.replace('column = "age"', 'column = "height"'), "signals.age: column = 'height': is no column of the data; allowed: age, "),
        (PATIENTS.replace('column = "sex"', 'column = "bmi"'), "signals.sex: the data has 32.1; a category is a whole number"),
        (PATIENTS.replace('column = "age"', "index = 10"), "element 10 is asked for, a row has 10"),
        (PATIENTS.replace('column = "age"', 'column = "age"\ntensor = "image"'), "signals.age: tensor = 'image': is no input of the model or the data; allowed: features"),
        (SCORES, "signals.sure: tensor is not set; allowed: none, there is no output"),
        ('[signals.p]\nsummary = "projection"\ncomponents = 11\n', "vary in 10 directions, 11 components are asked for"),
        (PATIENTS.replace("300", "200"), "needs windows of 300 rows"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_named(text: str, words: str) -> None:
    with pytest.raises(DriftReferenceError) as caught:
        make_reference(_declared(text), _patients())
    assert words in str(caught.value)


def test_labels_that_the_model_has_no_class_for_are_refused() -> None:
    with pytest.raises(DriftReferenceError, match=r"the labels go to 1, 'scores' has 1 classes: 0-0"):
        make_reference(_declared(SCORES), _classified(classes=1))


Say = Callable[[Declaration, Rows], str]


@pytest.fixture
def say() -> Say:
    """The summary and the warnings as text."""

    def text(declaration: Declaration, rows: Rows) -> str:
        reference = make_reference(declaration, rows)
        console = Console(file=StringIO(), width=160)
        show(reference, len(encode_reference(reference)), "drift-reference.json", console)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue() + "\n".join(warnings(reference, rows))

    return text


def test_the_summary_names_every_signal_and_where_it_is_from(say: Say) -> None:
    text = say(_declared(PATIENTS), _patients())
    assert "drift-reference.json: 3 signals of 442 rows" in text
    assert "value of input features[0]" in text
    assert "category of input features[1]" in text
    assert "No labels or no signal 'confidence': accuracy will not be estimated." in text
    calibrated = say(_declared(SCORES), _classified())
    assert "Accuracy will be estimated from sure" in calibrated


def test_useless_signals_are_warned_of(say: Say) -> None:
    rng = np.random.default_rng(0)
    heights = rng.normal(170, 10, 400)
    table = np.stack(
        [heights, heights * 2.54, np.full(400, 3.0), rng.exponential(1, 400) ** 6, heights], axis=1
    )
    table[:240, 4] = np.nan
    declaration = _declared(
        "".join(
            f'[signals.{name}]\nsummary = "value"\nindex = {index}\n'
            for index, name in enumerate(("cm", "inches", "constant", "crowded"))
        )
        + "[policy]\nwindow_rows = 500\n"
    )
    text = say(declaration, Rows(inputs={"x": table.astype(np.float32)}, outputs={}, sha256="0" * 64))
    assert "inches: says the same as cm (rank correlation 1.000)" in text
    assert "constant: is always 3 in the data: it can only say that this has changed" in text
    assert 'lie in one bin; set spacing = "quantile"' in text
    assert "the reference has 400 rows, a window has 500" in text
    sparse = _declared('[signals.sparse]\nsummary = "value"\nindex = 4\n')
    with pytest.raises(DriftReferenceError, match=r"sparse with 10 bins needs 300 rows, the data has 160"):
        make_reference(sparse, Rows(inputs={"x": table}, outputs={}, sha256="0" * 64))
