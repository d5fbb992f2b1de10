"""``make fuzz``: patches made of noise, and patches tampered with in many places.

Whatever they hold: PatchError in words, or as many bytes as were asked for; never another exception, never more memory
than a few chunks.
"""

import tracemalloc

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.delta.errors import PatchError
from agent.delta.format import CHUNK_BYTES, MAGIC, METHOD_BYTES, Coding, write_varint
from agent.delta.make import make_patch
from agent.protocol.patches import PatchMethod
from tests.unit.delta.patches import nudged, pieces, weights

BASE = weights(40_000)
TARGET = nudged(BASE, 0.2)[:20_000] + weights(3_000, 8) + BASE[21_000:]
GOOD = {method: make_patch(BASE, TARGET, method) for method in PatchMethod}
FUZZ = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**63)).map(write_varint)
streams = st.builds(
    lambda size, coding, data: write_varint(size * 8 + coding) + data,
    st.integers(0, 70_000),
    st.sampled_from(Coding),
    st.binary(max_size=60),
)
likely = st.lists(st.one_of(numbers, streams, st.binary(max_size=20)), max_size=30).map(b"".join)


def bounded(patch: bytes, method: PatchMethod, size: int) -> None:
    tracemalloc.start()
    try:
        made = sum(map(len, pieces(patch, BASE, method, size)))
    except PatchError:
        made = size
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert made == size
    assert peak < 6 * CHUNK_BYTES


@FUZZ
@given(
    st.sampled_from(PatchMethod),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_tampered(method: PatchMethod, changes: list[tuple[int, int]]) -> None:
    patch = bytearray(GOOD[method])
    for place, value in changes:
        patch[place % len(patch)] = value
    bounded(bytes(patch), method, len(TARGET))


@FUZZ
@given(st.sampled_from([PatchMethod.SUB8, PatchMethod.SUB32]), st.integers(1, 2**20), likely)
def test_made_of_noise(method: PatchMethod, size: int, rest: bytes) -> None:
    head = MAGIC + bytes([METHOD_BYTES[method]]) + write_varint(len(BASE)) + write_varint(size)
    bounded(head + rest, method, size)


@FUZZ
@given(st.binary(max_size=400))
def test_bytes(patch: bytes) -> None:
    for method in PatchMethod:
        bounded(patch, method, len(TARGET))
