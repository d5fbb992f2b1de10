import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import (
    convert_bytearray_to_object,
    convert_object_to_bytearray,
)

from agent.runner.backends import HostileModelError, UnreadableModelError
from agent.runner.backends.tflite_file import check_tflite_file
from tests.contract.runner import tiny_models as tiny


def test_ordinary_models_pass() -> None:
    check_tflite_file(tiny.tflite_linear())
    check_tflite_file(tiny.tflite_linear(quantized=True))


@pytest.mark.parametrize("field", ["externalBufferGroups", "externalBuffers"])
def test_a_file_that_names_other_files_is_refused(field: str) -> None:
    model = convert_bytearray_to_object(bytearray(tiny.tflite_linear()))
    kind = schema.ExternalBufferGroupT if field == "externalBufferGroups" else schema.ExternalBufferT
    setattr(model, field, [kind()])
    with pytest.raises(HostileModelError, match="external buffers"):
        check_tflite_file(bytes(convert_object_to_bytearray(model)))


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\xff\xff\xff\xffTFL3", b"\x00\x00\x00\x00TFL3", b"\x08\x00\x00\x00TFL3\x00"]
)
def test_what_is_no_flatbuffer_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableModelError):
        check_tflite_file(content)


def test_every_truncation_is_refused_or_passed_to_the_interpreters_own_check_without_a_crash() -> None:
    whole = tiny.tflite_linear()
    for end in range(0, len(whole), 7):
        try:
            check_tflite_file(whole[:end])
        except UnreadableModelError:
            continue
