import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.runner.backends import HostileModelError, UnreadableModelError, open_backend
from agent.runner.backends.onnx_file import MAX_DEPTH, check_onnx_file
from tests.contract.runner import tiny_models as tiny

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])


def external_weight() -> TensorProto:
    weight = numpy_helper.from_array(tiny.WEIGHT, "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return weight


def test_ordinary_models_pass() -> None:
    for content in (tiny.onnx_linear(), tiny.onnx_unary("Relu"), tiny.onnx_gather()):
        check_onnx_file(content)


def test_external_data_is_refused_although_the_file_it_names_is_there(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(tiny.WEIGHT.tobytes())
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny.onnx_linear(external_weight()))
    with pytest.raises(HostileModelError, match="external data"):
        open_backend("onnx", path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)
    shutil.copy(path, tmp_path / "copy.onnx")
    with pytest.raises(HostileModelError, match="external data"):
        open_backend("onnx", tmp_path / "copy.onnx", inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)


@pytest.mark.parametrize("only", ["data_location", "external_data"])
def test_either_sign_of_external_data_is_enough(only: str) -> None:
    weight = external_weight()
    weight.ClearField("data_location" if only == "external_data" else "external_data")
    with pytest.raises(HostileModelError, match="external data"):
        check_onnx_file(tiny.onnx_linear(weight))


def test_external_data_is_found_in_an_attribute_of_a_branch() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=external_weight())
    branch = helper.make_graph([constant], "branch", [], [Y])
    choose = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(HostileModelError, match="external data"):
        check_onnx_file(tiny.onnx_bytes([choose], [X], [Y]))


def test_external_data_is_found_in_a_sparse_weight() -> None:
    model = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [X], [Y])
    sparse = model.sparse_initializer.add()
    sparse.values.CopyFrom(external_weight())
    with pytest.raises(HostileModelError, match="external data"):
        check_onnx_file(helper.make_model(model).SerializeToString())


def test_an_enum_that_a_reader_would_cut_to_external_is_refused() -> None:
    tensor = b"\x70" + bytes([0x81, 0x80, 0x80, 0x80, 0x10])  # data_location = 2**32 + 1
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(HostileModelError, match="external data"):
        check_onnx_file(b"\x3a" + bytes([len(graph)]) + graph)


@pytest.mark.parametrize("domain", ["evil.ops", "ai.onnx.contrib", "Com.Microsoft"])
def test_an_unknown_operator_domain_is_refused_by_name(domain: str) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], domain=domain)
    with pytest.raises(HostileModelError, match=f"domain '{domain}' is unknown; allowed:"):
        check_onnx_file(tiny.onnx_bytes([node], [X], [Y], domains=[domain]))


def test_an_operator_that_reads_files_is_refused() -> None:
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/etc/passwd")
    with pytest.raises(HostileModelError, match="EPContext"):
        check_onnx_file(tiny.onnx_bytes([node], [X], [Y], domains=["com.microsoft"]))


def test_an_unknown_domain_inside_a_function_is_refused() -> None:
    inner = helper.make_node("Anything", ["a"], ["b"], domain="evil.ops")
    function = helper.make_function(
        "com.microsoft", "F", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)]
    )
    graph = helper.make_graph([helper.make_node("F", ["x"], ["y"], domain="com.microsoft")], "g", [X], [Y])
    model = helper.make_model(graph, functions=[function])
    with pytest.raises(HostileModelError, match=r"evil\.ops"):
        check_onnx_file(model.SerializeToString())


def test_a_training_graph_is_refused() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [X], [Y])
    model = helper.make_model(graph)
    model.training_info.add()
    with pytest.raises(HostileModelError, match="training"):
        check_onnx_file(model.SerializeToString())


def test_deep_nesting_is_refused() -> None:
    deep = b""
    for _ in range(MAX_DEPTH):  # graph → node → attribute → graph …
        for tag in (0x32, 0x2A, 0x0A):
            deep = bytes([tag]) + _varint(len(deep)) + deep
    with pytest.raises(HostileModelError, match="nested deeper"):
        check_onnx_file(b"\x3a" + _varint(len(deep)) + deep)


def test_groups_and_endless_numbers_are_not_protobuf() -> None:
    for content in (b"\x0b", b"\xff" * 30, b"\x3a\x05abc", b"\x00\x00"):
        with pytest.raises(UnreadableModelError):
            check_onnx_file(content)


def test_a_zero_byte_weight_is_no_external_data() -> None:
    check_onnx_file(tiny.onnx_linear(numpy_helper.from_array(np.zeros((4, 3), np.float32), "w")))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
