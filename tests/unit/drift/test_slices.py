"""Slices that a reference declares: what could never be told apart is refused where the reference is made."""

import pytest
from msgspec.structs import replace

from agent.drift import BadReferenceError, decode_reference, encode_reference
from agent.protocol.drift import DriftReference, SlicePolicy
from tests.unit.runner.sliced import made


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return made()


def with_slices(reference: DriftReference, slices: SlicePolicy) -> DriftReference:
    policy = replace(reference.policy, slices=slices)
    return decode_reference(encode_reference(replace(reference, policy=policy)))


def test_declared_slices_are_kept(reference: DriftReference) -> None:
    slices = SlicePolicy(parameter="camera", values=("left", "größe 2", "x" * 64), maximum=3)
    assert with_slices(reference, slices).policy.slices == slices


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        (SlicePolicy(parameter="timeout"), "slices: the parameter 'timeout' has a meaning of its own"),
        (
            SlicePolicy(parameter="c", values=("a", "b"), maximum=1),
            "2 values are declared; up to 1 different",
        ),
        (SlicePolicy(parameter="c", values=("a", "a")), "2 values are declared; up to 8 different"),
        (SlicePolicy(parameter="c", values=("",)), "the value '' can't be told apart"),
        (SlicePolicy(parameter="c", values=("a=b",)), "the value 'a=b' can't be told apart"),
        (SlicePolicy(parameter="c", values=("a\x1b",)), r"the value 'a\\x1b' can't be told apart"),
        (SlicePolicy(parameter="c", values=("x" * 65,)), "can't be told apart: up to 64 printable"),
        (SlicePolicy(parameter="c", values=("other",)), "and not 'other'"),
    ],
)
def test_what_could_not_be_told_apart_is_refused(
    reference: DriftReference, slices: SlicePolicy, said: str
) -> None:
    with pytest.raises(BadReferenceError, match=said):
        with_slices(reference, slices)
