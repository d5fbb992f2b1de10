"""Any base gives any target; and a patch that was tampered with gives words, or bytes that its hash would refuse."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.delta.errors import PatchError
from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod
from tests.unit.delta.patches import applied, nudged, weights

PARTS = [weights(5_000, seed) for seed in range(3)]
PARTS += [nudged(PARTS[0], 0.1), nudged(PARTS[1], 1.0), bytes(3_000), b"a label\n" * 40]

part = st.builds(
    lambda number, start, length: PARTS[number][start : start + length],
    st.integers(0, len(PARTS) - 1),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
)
files = st.lists(part | st.binary(max_size=30), max_size=5).map(b"".join)
subtracting = st.sampled_from([PatchMethod.SUB8, PatchMethod.SUB32])


@settings(max_examples=40, deadline=None)
@given(files, files, st.sampled_from(PatchMethod), st.integers(0, 20_000))
def test_what_a_patch_makes_is_the_target_from_any_place_on(
    base: bytes, target: bytes, method: PatchMethod, start: int
) -> None:
    patch = make_patch(base, target, method)
    assert applied(patch, base, method, len(target), start) == target[start:]


PATCHES = {
    method: make_patch(PARTS[0] + PARTS[1], PARTS[2][:900] + PARTS[3] + PARTS[1][8:], method)
    for method in PatchMethod
}
SIZE = 900 + 5_000 + 4_992


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(PatchMethod),
    st.lists(st.tuples(st.integers(0, 6_000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 6_000),
)
def test_a_patch_that_was_tampered_with_ends_in_words_or_in_as_many_bytes(
    method: PatchMethod, changes: list[tuple[int, int]], cut: int
) -> None:
    patch = bytearray(PATCHES[method])
    for place, value in changes:
        patch[place % len(patch)] = value
    try:
        made = applied(bytes(patch[: max(1, len(patch) - cut % 7)]), PARTS[0] + PARTS[1], method, SIZE)
    except PatchError:
        return
    assert len(made) == SIZE
