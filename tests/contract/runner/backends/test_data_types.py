"""Each data type of the protocol through each library, and the table that says which it takes."""

from typing import get_args

import numpy as np
import pytest

from agent.protocol.manifest import Datatype
from agent.runner.backends import (
    DATATYPES,
    DTYPES,
    SUPPORT,
    Array,
    BackendError,
    ContractMismatchError,
    InferenceError,
    InvalidInputError,
    datatype_of,
    dtype_of,
    zeros,
)
from tests.contract.runner.backends.subject import Subject

EVERY: tuple[Datatype, ...] = get_args(Datatype)


def extremes(datatype: Datatype) -> Array:
    """[1, 4] of the values that are lost first."""
    if datatype == "BYTES":
        texts: Array = np.empty((1, 4), object)
        texts[0] = [b"", "Grüße, 世界".encode(), b"nul\0inside", b"long" * 500]
        return texts
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        return np.array([[True, False, False, True]])
    if dtype.kind == "f":
        return np.array([[np.finfo(dtype).max, -np.finfo(dtype).tiny, -0.0, np.inf]], dtype)
    return np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]], dtype)


def same(got: Array, want: Array) -> bool:
    if want.dtype == object:
        return got.tolist() == want.tolist() and all(type(value) is bytes for value in got.flat)
    return got.tobytes() == want.tobytes()


def test_the_helpers_know_every_data_type_of_the_protocol() -> None:
    assert set(DATATYPES) == set(EVERY)
    for datatype in DATATYPES:
        assert datatype_of(dtype_of(datatype)) == datatype
        assert zeros(datatype, (2, 3)).shape == (2, 3)
        assert zeros(datatype, (2, 3)).dtype == dtype_of(datatype)


@pytest.mark.parametrize("datatype", EVERY)
def test_values_of_every_data_type_pass_unchanged(subject: Subject, datatype: Datatype) -> None:
    if datatype not in subject.support.datatypes:
        with pytest.raises(
            ContractMismatchError, match=f"does not take datatype {datatype}; allowed: BOOL, "
        ):
            subject.copy(datatype)
        return
    backend = subject.copy(datatype)
    one = extremes(datatype)
    for x in (one, np.concatenate([one, one, one]), zeros(datatype, (2, 4)), one):
        y = backend.infer({"x": x})["y"]
        assert y.dtype == dtype_of(datatype)
        assert y.shape == x.shape
        assert same(y, x)


@pytest.mark.parametrize("datatype", EVERY)
def test_the_table_refuses_only_what_the_library_cannot_do(
    subject: Subject, datatype: Datatype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if datatype in subject.support.datatypes:
        return
    open_to_all = subject.support._replace(datatypes=DATATYPES)
    monkeypatch.setitem(SUPPORT, subject.support.library, open_to_all)
    with pytest.raises(BackendError):
        subject.copy(datatype).infer({"x": extremes(datatype)})


def test_bytes_that_are_no_text_are_the_senders_fault_or_pass(subject: Subject) -> None:
    backend = subject.copy("BYTES")
    x: Array = np.empty((1, 4), object)
    x[0] = [b"a", b"b", b"\xff\xfe", b"d"]
    if not subject.support.text_only:
        assert same(backend.infer({"x": x})["y"], x)
        return
    with pytest.raises(InvalidInputError, match=r"input 'x': element 2 is not UTF-8"):
        backend.infer({"x": x})
    x[0, 2] = b"c"
    assert same(backend.infer({"x": x})["y"], x)


def test_a_string_of_the_model_that_is_no_text_is_the_models_fault(onnx: Subject) -> None:
    backend = onnx.copy("BYTES", "broken-text")
    with pytest.raises(InferenceError) as caught:
        backend.infer({"x": extremes("BYTES")})
    assert not isinstance(caught.value, InvalidInputError)
