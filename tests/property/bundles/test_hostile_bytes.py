"""Whatever a file holds, opening it as a bundle ends in words or in a bundle whose every byte is accounted for."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.protocol.bundle import (
    LENGTH_BYTES,
    MAGIC,
    MAX_ENVELOPE_BYTES,
    PREFIX_BYTES,
    OpenedBundle,
    open_bundle,
)
from agent.protocol.errors import ProtocolError
from tests.support.bundles import bundle_of, index_of

FILES = {
    ("metadata", "1.root.json"): b"root" * 10,
    ("director", "camera-1"): b"document",
    ("artifact", "models/digits/1/model.onnx"): bytes(range(256)) * 8,
}
WHOLE = bundle_of(index_of(FILES), FILES)


def opened(data: bytes) -> OpenedBundle:
    return open_bundle(lambda offset, length: data[offset : offset + length], len(data))


def test_the_whole_bundle_opens_and_every_file_is_where_its_place_says() -> None:
    bundle = opened(WHOLE)
    for key, data in FILES.items():
        file, offset = bundle.places[key]
        assert WHOLE[offset : offset + file.size] == data


def test_every_point_of_truncation_has_words() -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(ProtocolError, match=r"copy the whole bundle again|not an Edgeward bundle"):
            opened(WHOLE[:end])
    with pytest.raises(ProtocolError, match="not an Edgeward bundle"):
        opened(b"")


@given(st.binary(max_size=300), st.sampled_from([b"", MAGIC, MAGIC + (20).to_bytes(LENGTH_BYTES, "big")]))
@example(b"", MAGIC + MAX_ENVELOPE_BYTES.to_bytes(LENGTH_BYTES, "big"))
def test_no_bytes_raise_anything_else(data: bytes, prefix: bytes) -> None:
    with pytest.raises(ProtocolError):
        opened(prefix + data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing_that_is_counted(place: int, flip: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= flip
    try:
        bundle = opened(bytes(changed))
    except ProtocolError:
        return
    end = PREFIX_BYTES + len(bundle.envelope) + bundle.index.file_bytes
    assert end == len(changed)
    assert all(offset + file.size <= end for file, offset in bundle.places.values())


@pytest.mark.parametrize("announced", [0, MAX_ENVELOPE_BYTES + 1, 2**32 - 1])
def test_an_oversized_index_is_refused_before_it_is_read(announced: int) -> None:
    asked: list[int] = []
    data = MAGIC + announced.to_bytes(LENGTH_BYTES, "big") + b"{"

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    with pytest.raises(ProtocolError, match="its index is said to have"):
        open_bundle(read, len(data))
    assert asked == [PREFIX_BYTES]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.__class__(**{**_fields(index), "files": index.files * 2}), "stand in it twice"),
        (
            lambda index: index.__class__(**{**_fields(index), "devices": index.devices * 2}),
            "stand in it twice",
        ),
        (lambda index: index.__class__(**{**_fields(index), "devices": ()}), r"\$\.devices"),
        (lambda index: index.__class__(**{**_fields(index), "files": ()}), r"\$\.files"),
    ],
)
def test_an_index_that_breaks_a_rule_is_refused_with_the_rule(
    change: Callable[..., object], words: str
) -> None:
    index = change(index_of(FILES))
    with pytest.raises(ProtocolError, match=words):
        opened(bundle_of(index, FILES))  # type: ignore[arg-type]  # an index


def _fields(index: object) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(index)  # type: ignore[arg-type]  # a struct
