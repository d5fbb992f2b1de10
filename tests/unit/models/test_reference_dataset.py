"""Reference data: three kinds of file, and what is wrong with one is said by file, line and column."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import DatasetError
from models.reference.dataset import Dataset, read_dataset
from models.reference.declaration import DataDeclaration

TABLE = "age,weight,class\n30,70.5,0\n40,,1\n"


def _csv(folder: Path, text: str, **declared: object) -> Dataset:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return read_dataset(path, DataDeclaration(**declared), tensor="x")  # type: ignore[arg-type]


def test_a_tables_columns_become_the_elements_of_one_tensor(tmp_path: Path) -> None:
    dataset = _csv(tmp_path, TABLE, label="class")
    assert dataset.columns == ("age", "weight")
    assert dataset.tensors["x"].dtype == np.float32
    np.testing.assert_array_equal(dataset.tensors["x"], [[30, 70.5], [40, np.nan]])
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1]


def test_declared_columns_say_which_and_in_which_order(tmp_path: Path) -> None:
    dataset = _csv(tmp_path, TABLE, columns=("weight", "age"))
    np.testing.assert_array_equal(dataset.tensors["x"], [[70.5, 30], [np.nan, 40]])
    assert dataset.labels is None


def test_arrays_by_name_with_labels_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, image=np.zeros((3, 2, 2)), y=np.array([0, 2, 1]), writer=np.array([5, 5, 6]))
    dataset = read_dataset(path, DataDeclaration(label="y", group="writer"), tensor=None)
    assert list(dataset.tensors) == ["image"]
    assert dataset.labels is not None
    assert dataset.groups is not None
    assert (dataset.rows, dataset.labels.tolist(), dataset.groups.tolist()) == (3, [0, 2, 1], [5, 5, 6])


def test_one_array_and_a_file_of_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 3), dtype=np.float32))
    np.save(tmp_path / "labels.npy", np.array([1.0, 0.0]))
    dataset = read_dataset(
        tmp_path / "rows.npy", DataDeclaration(), tensor="x", labels=tmp_path / "labels.npy"
    )
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "declared", "words"),
    [
        ("", {}, "a line of column names and at least one line of numbers is needed"),
        ("a,b\n", {}, "at least one line of numbers is needed"),
        ("a,a\n1,2\n", {}, "column 'a' stands twice"),
        ("a,b\n1\n", {}, "line 2 has 1 cells, the first line has 2"),
        ("a,b\n1,2\n3,red\n", {}, "line 3, column b: 'red' is no number"),
        ("a,b\n1,2\n", {"columns": ("a", "c")}, "has no column 'c'; it has: a, b"),
        ("a,b\n1,2\n", {"label": "y"}, "has no column 'y'"),
        ("a,y\n1,0.5\n", {"label": "y"}, "y has 0.5; whole numbers from 0 are allowed"),
        ("a,y\n1,\n", {"label": "y"}, "y has nan; whole numbers from 0 are allowed"),
        ("a,y\n1,-1\n", {"label": "y"}, "y has -1.0; whole numbers from 0 are allowed"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(
    tmp_path: Path, text: str, declared: dict[str, object], words: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        _csv(tmp_path, text, **declared)
    assert "rows.csv" in str(caught.value)
    assert words in str(caught.value)


def test_what_is_wrong_with_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"")
    (tmp_path / "broken.npz").write_bytes(b"not a zip")
    np.savez(tmp_path / "uneven.npz", a=np.zeros(3), b=np.zeros(4))
    np.savez(tmp_path / "labels.npz", y=np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))
    for name, declared, words in (
        ("absent.npz", DataDeclaration(), "there is no such file"),
        ("rows.parquet", DataDeclaration(), "its name does not say what it is; allowed: .npz, .npy or .csv"),
        ("broken.npz", DataDeclaration(), "can't be read as NumPy's .npz"),
        ("objects.npy", DataDeclaration(), "can't be read as NumPy's .npy"),  # never unpickled
        ("uneven.npz", DataDeclaration(), "different numbers of rows: a 3, b 4"),
        ("labels.npz", DataDeclaration(label="y"), "there is no array beside the labels"),
        ("rows.npy", DataDeclaration(), "which input its rows are is not said"),
    ):
        with pytest.raises(DatasetError) as caught:
            read_dataset(tmp_path / name, declared, tensor=None)
        assert name in str(caught.value)
        assert words in str(caught.value)
