"""``python -m models reference`` as a person types it: for a release folder, a model file, and outputs that stand in the data."""

import csv
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from agent.drift import decode_reference
from agent.protocol.manifest import TensorSpec
from models.__main__ import main
from models.description import DESCRIPTION_FILENAME, Description, VariantFile, write_json

TABLE = """
[data]
label = "malignant"

[model.inputs.features]
datatype = "FP32"
shape = [-1, 3]

[model.outputs.probabilities]
datatype = "FP32"
shape = [-1, 2]

[policy]
window_rows = 300

[signals.texture]
summary = "value"
column = "texture"

[signals.confidence]
summary = "confidence"

[signals.class]
summary = "argmax"
"""
LOOKED_AT = [1, 4, 8]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with a declaration, a table of real measurements, and a small ONNX model of them."""
    loaded = load_breast_cancer()
    values = loaded.data[:, LOOKED_AT]
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    fitted = LogisticRegression().fit(values[:150], loaded.target[:150])
    weights = np.concatenate([-fitted.coef_, fitted.coef_]) / 2
    bias = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"], transB=1),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "cells",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in (("weights", weights), ("bias", bias))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "cells.onnx")
    with (tmp_path / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["texture", "smoothness", "symmetry", "malignant"])
        writer.writerows([*row, label] for row, label in zip(values[150:], loaded.target[150:], strict=True))
    (tmp_path / "signals.toml").write_text(TABLE)
    return tmp_path


def test_a_table_and_a_model_file(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table / "drift-reference.json"
    code = main(
        ["reference", "--signals", str(table / "signals.toml"), "--model", str(table / "cells.onnx"),
         "--data", str(table / "cells.csv"), "--out", str(out)]
    )  # fmt: skip
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    reference = decode_reference(out.read_bytes())
    assert [signal.name for signal in reference.signals] == ["texture", "confidence", "class"]
    assert reference.rows == 419
    assert reference.calibration is not None
    assert reference.calibration.problem is None
    assert "drift-reference.json: 3 signals of 419 rows" in said.out
    assert "value of input features[0]" in said.out
    assert "Accuracy will be estimated from confidence" in said.out
    assert "Warning: the reference has 419 rows" not in said.out  # a window has 300


def test_a_model_of_a_fixed_number_of_rows_answers_every_row_once(table: Path) -> None:
    """419 rows by fours: the last run is filled up, and what fills it is not counted."""
    outs = [table / "open.json", table / "fixed.json"]
    for out, rows in zip(outs, ("-1", "4"), strict=True):
        (table / "signals.toml").write_text(TABLE.replace("[-1, ", f"[{rows}, "))
        assert main(
            ["reference", "--signals", str(table / "signals.toml"), "--model", str(table / "cells.onnx"),
             "--data", str(table / "cells.csv"), "--out", str(out)]
        ) == 0  # fmt: skip
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_a_release_folder_gets_its_reference_where_package_looks_for_it(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = VariantFile(
        name="onnx-fp32", runtime="onnx", precision="fp32", filename="cells.onnx", opset=17, minimum_runtime="1.22"
    )  # fmt: skip
    description = Description(
        model="cells",
        summary="",
        labels=("benign", "malignant"),
        inputs=(TensorSpec(name="features", datatype="FP32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),),
        preprocessing="",
        variants=(msgspec.structs.replace(variant, name="other", filename="absent.onnx"), variant),
        golden_tolerance=1e-3,
        golden_class_agreement=1.0,
        datasets={},
        recipe="",
        code_version="",
        packages={},
    )
    write_json(table / DESCRIPTION_FILENAME, description)
    declared = TABLE[: TABLE.index("[model.inputs")] + TABLE[TABLE.index("[policy]") :]
    (table / "signals.toml").write_text(declared)
    arguments = [
        "reference", "--signals", str(table / "signals.toml"), "--release", str(table), "--data", str(table / "cells.csv"),
    ]  # fmt: skip
    assert main([*arguments, "--variant", "onnx-fp32"]) == 0
    assert capsys.readouterr().err == ""
    assert decode_reference((table / "reference.json").read_bytes()).rows == 419
    assert main([*arguments, "--variant", "onnx-int4"]) == 1
    assert "has no variant 'onnx-int4'; it has: other, onnx-fp32" in capsys.readouterr().err
    assert main(arguments) == 1  # the first one, whose file is not there
    assert "absent.onnx" in capsys.readouterr().err


def test_outputs_that_stand_in_the_data_need_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", wave=rng.normal(size=(400, 64)), scores=rng.dirichlet([1, 1, 1], 400))
    (tmp_path / "signals.toml").write_text(
        '[signals.loudness]\nsummary = "rms"\n[signals.class]\nsummary = "argmax"\ntensor = "scores"\n'
    )
    out = tmp_path / "reference.json"
    code = main(
        ["reference", "--signals", str(tmp_path / "signals.toml"), "--data", str(tmp_path / "rows.npz"), "--out", str(out)]
    )  # fmt: skip
    assert (code, capsys.readouterr().err) == (0, "")
    assert [len(signal.counts) for signal in decode_reference(out.read_bytes()).signals] == [12, 5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--out": None}, "where to write it is not said; add --out FILE"),
        ({"--model": "cells.h5"}, "cells.h5: allowed are .onnx and .tflite files"),
        ({"--data": "absent.csv"}, "absent.csv: there is no such file"),
        ({"--signals": "absent.toml"}, "absent.toml: can't be read"),
    ],
)
def test_a_refusal_says_why_and_writes_nothing(
    table: Path, change: dict[str, str | None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "--signals": "signals.toml",
        "--model": "cells.onnx",
        "--data": "cells.csv",
        "--out": "reference.json",
    } | change
    arguments = [
        word for name, value in options.items() if value is not None for word in (name, str(table / value))
    ]
    assert main(["reference", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("models: ")
    assert words in said
    assert not (table / "reference.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[model.inputs.features]", "[model.inputs.rows]", "cells.onnx"),
        ("shape = [-1, 3]", "shape = [-1, 4]", "the data's features has shape (419, 3), the model takes [-1, 4]"),
        ('[model.outputs.probabilities]\ndatatype = "FP32"\nshape = [-1, 2]', "", "model.outputs: what cells.onnx has is not declared"),
        ('[data]\nlabel = "malignant"', "", "the data's features has shape (419, 4), the model takes [-1, 3]"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_named(
    table: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (table / "signals.toml").write_text(TABLE.replace(old, new))
    code = main(
        ["reference", "--signals", str(table / "signals.toml"), "--model", str(table / "cells.onnx"),
         "--data", str(table / "cells.csv"), "--out", str(table / "out.json")]
    )  # fmt: skip
    assert code == 1
    assert words in capsys.readouterr().err
