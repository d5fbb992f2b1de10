"""A patch's name says all that a device needs to know before it fetches it, and nothing else reads like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.patches import BASE_DIGITS, MAX_FILENAME, PatchMethod, parse_patch_name, patch_name

filenames = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
digests = st.from_regex(r"\A[0-9a-f]{64}\Z")
subtracting = st.sampled_from([PatchMethod.SUB8, PatchMethod.SUB32])


@given(filenames, subtracting, digests)
def test_what_is_built_from_a_base_is_read_back(target: str, method: PatchMethod, base: str) -> None:
    name = patch_name(target, method, base)
    if name is None:
        assert len(target) > MAX_FILENAME - len(f".from-{base[:BASE_DIGITS]}.{method}")
        return
    parsed = parse_patch_name(name)
    assert parsed is not None
    assert (parsed.target, parsed.method, parsed.base) == (target, method, base[:BASE_DIGITS])


@given(filenames)
def test_a_whole_compressed_file_is_read_back(target: str) -> None:
    name = patch_name(target, PatchMethod.ZSTD)
    if name is None:
        assert len(target) > MAX_FILENAME - len(".zst")
        return
    parsed = parse_patch_name(name)
    assert parsed is not None
    assert (parsed.target, parsed.method, parsed.base) == (target, PatchMethod.ZSTD, None)


@given(filenames | st.text(max_size=40))
def test_a_name_that_is_read_is_the_one_that_would_be_built(text: str) -> None:
    parsed = parse_patch_name(text)
    if parsed is not None:
        assert patch_name(parsed.target, parsed.method, parsed.base) == text


@given(filenames, digests, digests)
def test_of_a_patch_of_a_patch_the_last_mark_decides(target: str, first: str, second: str) -> None:
    inner = patch_name(target, PatchMethod.SUB8, first)
    outer = None if inner is None else patch_name(inner, PatchMethod.SUB32, second)
    parsed = None if outer is None else parse_patch_name(outer)
    if parsed is not None:
        assert (parsed.target, parsed.base) == (inner, second[:BASE_DIGITS])


@pytest.mark.parametrize(
    "name",
    [
        "model.onnx",
        "model.onnx.sub8",
        "model.onnx.from-0123.sub8",
        "model.onnx.from-0123456789ABCDEF.sub8",
        "model.onnx.from-0123456789abcdef.zst2",
        ".zst",
        "a/b.zst",
        "model.zst\n",
        "",
    ],
)
def test_what_is_no_patchs_name(name: str) -> None:
    assert parse_patch_name(name) is None


def test_a_base_where_none_belongs_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="takes no base"):
        patch_name("model.onnx", PatchMethod.ZSTD, "0" * 64)
    with pytest.raises(ValueError, match="needs the digest of a base"):
        patch_name("model.onnx", PatchMethod.SUB8)
