"""Reads reference data: arrays by name (.npz), one array (.npy), or a table with named columns (.csv)."""

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.runner.backends import Array
from models.description import sha256_of
from models.errors import DatasetError
from models.network import IntArray
from models.reference.declaration import DataDeclaration

ENDINGS = ".npz, .npy or .csv"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows by tensor, and what is known about each row."""

    tensors: dict[str, Array]
    """Name → array of shape (rows, …)."""
    labels: IntArray | None
    """Shape (rows,)."""
    groups: IntArray | None
    """Shape (rows,)."""
    columns: tuple[str, ...]
    """Names of the elements of a row, where the data is a table; else empty."""
    sha256: str
    """Of the file."""

    @property
    def rows(self) -> int:
        """Number of rows, the same in every tensor."""
        return len(next(iter(self.tensors.values())))


def read_dataset(
    path: Path, declared: DataDeclaration, *, tensor: str | None, labels: Path | None = None
) -> Dataset:
    """Read one file of rows.

    Args:
        path: the file; its ending says what it is.
        declared: how a table is read.
        tensor: the input that a table or a single array becomes; None where several could be meant.
        labels: a .npy file with one label a row, instead of the declared column or array.

    Raises:
        DatasetError: it can't be read, or is not what its name or the declaration says; the text names the file, the
            line and the column or array, and what is allowed.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    if path.suffix not in {".npz", ".npy", ".csv"}:
        raise DatasetError(f"{path}: its name does not say what it is; allowed: {ENDINGS}")
    arrays, columns = _arrays(path, declared, tensor)
    taken = {
        name: _integers(path, name, arrays.pop(name, None))
        for name in (declared.label, declared.group)
        if name
    }
    if not arrays:
        raise DatasetError(f"{path}: there is no array beside the labels")
    dataset = Dataset(
        tensors=arrays,
        labels=taken[declared.label] if declared.label else None,
        groups=taken[declared.group] if declared.group else None,
        columns=columns,
        sha256=sha256_of(path),
    )
    if labels is not None:
        array = _load(labels)
        if not isinstance(array, np.ndarray):
            raise DatasetError(f"{labels}: holds several arrays, one label a row is needed (.npy)")
        dataset = _with_labels(dataset, _integers(labels, "labels", array))
    _require_rows(path, dataset, taken)
    return dataset


def _with_labels(dataset: Dataset, labels: IntArray) -> Dataset:
    return Dataset(
        tensors=dataset.tensors,
        labels=labels,
        groups=dataset.groups,
        columns=dataset.columns,
        sha256=dataset.sha256,
    )


def _arrays(
    path: Path, declared: DataDeclaration, tensor: str | None
) -> tuple[dict[str, Array], tuple[str, ...]]:
    if path.suffix == ".csv":
        return _table(path, declared, _named(path, tensor))
    loaded = _load(path)
    if isinstance(loaded, dict):
        return loaded, declared.columns
    return {_named(path, tensor): loaded}, declared.columns


def _named(path: Path, tensor: str | None) -> str:
    if tensor is None:
        raise DatasetError(
            f"{path}: which input its rows are is not said, and the model has not exactly one; set data.tensor"
        )
    return tensor


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: can't be read as NumPy's {path.suffix}: {error}") from error


def _integers(path: Path, name: str, array: Array | None) -> IntArray:
    if array is None:
        raise DatasetError(f"{path}: has no column or array {name!r}")
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; one number a row is needed"
        )
    if not (np.isfinite(array) & (array == np.round(array)) & (array >= 0)).all():
        wrong = array[~(np.isfinite(array) & (array == np.round(array)) & (array >= 0))][0]
        raise DatasetError(f"{path}: {name} has {wrong}; whole numbers from 0 are allowed")
    return array.astype(np.int64)


def _require_rows(path: Path, dataset: Dataset, more: dict[str, IntArray]) -> None:
    lengths = {name: len(array) for name, array in dataset.tensors.items() if array.ndim} | {
        name: len(array) for name, array in more.items()
    }
    if dataset.labels is not None:
        lengths["labels"] = len(dataset.labels)
    flat = sorted(name for name, array in dataset.tensors.items() if not array.ndim)
    if flat:
        raise DatasetError(f"{path}: {flat[0]} is a single number; an array with a row axis is needed")
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DatasetError(f"{path}: the arrays have different numbers of rows: {shown}")


# --- Tables ------------------------------------------------------------------------------------------------------


def _table(path: Path, declared: DataDeclaration, tensor: str) -> tuple[dict[str, Array], tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            rows = [_numbers(path, number, header, line) for number, line in enumerate(lines, 2) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: can't be read as CSV: {error}") from error
    if not header or not rows:
        raise DatasetError(f"{path}: a line of column names and at least one line of numbers is needed")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: column {twice[0]!r} stands twice")
    apart = [name for name in (declared.label, declared.group) if name]
    columns = declared.columns or tuple(name for name in header if name not in apart)
    absent = [name for name in (*columns, *apart) if name not in header]
    if absent:
        raise DatasetError(f"{path}: has no column {absent[0]!r}; it has: {', '.join(header)}")
    values: NDArray[np.float64] = np.array(rows, dtype=np.float64)
    places = [header.index(name) for name in columns]
    arrays: dict[str, Array] = {tensor: values[:, places].astype(np.float32)}
    arrays |= {name: values[:, header.index(name)] for name in apart}
    return arrays, columns


def _numbers(path: Path, number: int, header: list[str], line: list[str]) -> list[float]:
    if len(line) != len(header):
        raise DatasetError(f"{path}: line {number} has {len(line)} cells, the first line has {len(header)}")
    return [_cell(path, number, name, cell) for name, cell in zip(header, line, strict=True)]


def _cell(path: Path, number: int, name: str, cell: str) -> float:
    """An empty cell is NaN: not known."""
    text = cell.strip()
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise DatasetError(
            f"{path}: line {number}, column {name}: {cell!r} is no number; the reference is made of what the model gets, so "
            "codes are written as whole numbers"
        ) from None
