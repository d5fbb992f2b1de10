"""The Open Inference Protocol's inference messages: JSON, and the binary tensor extension, both ways.

Specification: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and Triton's
``extension_binary_data.md``. With the header ``Inference-Header-Content-Length: N`` the first N bytes of a body are
JSON and each tensor that says ``binary_data_size`` follows, in the order of the JSON.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import Array, datatype_of
from agent.runner.errors import RequestError
from agent.runner.tensors import check_rows, check_tensor, from_binary, from_json

MAX_DEADLINE_US = 3_600_000_000
"""The longest ``timeout`` a request may ask for: one hour."""


class _InputParameters(Struct):
    binary_data_size: int | UnsetType = UNSET
    shared_memory_region: Any = UNSET


class _Input(Struct):
    name: str
    datatype: str
    shape: list[int]
    data: Any = UNSET
    parameters: _InputParameters | None = None


class _OutputParameters(Struct):
    binary_data: bool | UnsetType = UNSET
    classification: int = 0
    shared_memory_region: Any = UNSET


class _Output(Struct):
    name: str
    parameters: _OutputParameters | None = None


class _RequestParameters(Struct):
    timeout: int = 0
    binary_data_output: bool = False


class _Request(Struct):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] | None = None
    parameters: _RequestParameters | None = None


class InferRequest(NamedTuple):
    """One checked request."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[tuple[str, bool], ...]
    """(name, whether it is answered in binary), in the order asked for."""
    deadline_s: float | None
    """Seconds; None: the server's default."""


class Contract:
    """The tensors of one model."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.input_by_name = {spec.name: spec for spec in inputs}
        self.output_names = {spec.name: None for spec in outputs}
        self._rows_of = next((spec.name for spec in inputs if spec.shape and spec.shape[0] == -1), None)

    def rows(self, inputs: Mapping[str, Array]) -> int:
        """Rows of a checked batch; 1 where the model takes no batches."""
        return 1 if self._rows_of is None else int(inputs[self._rows_of].shape[0])


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.encode


def decode_request(body: bytes, header_length: int | None, contract: Contract) -> InferRequest:
    """Take a request apart and check it.

    Args:
        body: the whole body.
        header_length: ``Inference-Header-Content-Length``; None: the body is JSON alone.
        contract: the model's tensors.

    Raises:
        RequestError: what is wrong, where, and what is allowed.
    """
    view = memoryview(body)
    if header_length is not None and not 0 < header_length <= len(body):
        raise RequestError(
            f"header Inference-Header-Content-Length: expected 1 to {len(body)} (the body), got {header_length}"
        )
    try:
        request = _decode(view if header_length is None else view[:header_length])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"request: {error}") from error
    binary = view[len(body) :] if header_length is None else view[header_length:]
    inputs = _take_inputs(request.inputs, binary, contract)
    parameters = request.parameters or _RequestParameters()
    return InferRequest(
        request.id,
        inputs,
        _wanted(request.outputs, contract, binary_by_default=parameters.binary_data_output),
        _deadline(parameters.timeout),
    )


def _take_inputs(given: list[_Input], binary: memoryview, contract: Contract) -> dict[str, Array]:
    inputs: dict[str, Array] = {}
    offset = 0
    for tensor in given:
        spec = contract.input_by_name.get(tensor.name)
        if spec is None or tensor.name in inputs:
            what = "unknown" if spec is None else "given twice"
            raise RequestError(
                f"input {tensor.name!r} is {what}; this model takes: {', '.join(contract.input_by_name)}"
            )
        shape = check_tensor(spec, tensor.datatype, tensor.shape)
        size = _binary_size(tensor)
        if size is None:
            inputs[tensor.name] = from_json(spec, shape, tensor.data)
            continue
        if not 0 <= size <= len(binary) - offset:
            raise RequestError(
                f"input {tensor.name!r}: binary_data_size is {size}, {len(binary) - offset} bytes are left in the body"
            )
        inputs[tensor.name] = from_binary(spec, shape, binary[offset : offset + size])
        offset += size
    if offset != len(binary):
        raise RequestError(
            f"request: {len(binary) - offset} bytes follow the last tensor's data; check binary_data_size"
        )
    if missing := [name for name in contract.input_by_name if name not in inputs]:
        raise RequestError(
            f"input {missing[0]!r} is missing; this model takes: {', '.join(contract.input_by_name)}"
        )
    check_rows(contract.inputs, inputs)
    return inputs


def _binary_size(tensor: _Input) -> int | None:
    parameters = tensor.parameters
    if parameters is not None and parameters.shared_memory_region is not UNSET:
        raise RequestError(
            f"input {tensor.name!r}: shared memory is not supported; send the data in the body"
        )
    size = UNSET if parameters is None else parameters.binary_data_size
    if (size is UNSET) == (tensor.data is UNSET):
        raise RequestError(f"input {tensor.name!r}: expected either 'data' or the parameter binary_data_size")
    return None if isinstance(size, UnsetType) else size


def _wanted(
    asked: list[_Output] | None,
    contract: Contract,
    *,
    binary_by_default: bool,
) -> tuple[tuple[str, bool], ...]:
    if not asked:
        return tuple((name, binary_by_default) for name in contract.output_names)
    wanted: dict[str, bool] = {}
    for output in asked:
        if output.name not in contract.output_names or output.name in wanted:
            what = "asked for twice" if output.name in wanted else "unknown"
            raise RequestError(
                f"output {output.name!r} is {what}; this model gives: {', '.join(contract.output_names)}"
            )
        wanted[output.name] = _wants_binary(output, default=binary_by_default)
    return tuple(wanted.items())


def _wants_binary(output: _Output, *, default: bool) -> bool:
    parameters = output.parameters
    if parameters is None:
        return default
    if parameters.shared_memory_region is not UNSET:
        raise RequestError(f"output {output.name!r}: shared memory is not supported; read the answer's body")
    if parameters.classification:
        raise RequestError(f"output {output.name!r}: the parameter classification is not supported")
    binary = parameters.binary_data
    return default if isinstance(binary, UnsetType) else binary


def _deadline(timeout_us: int) -> float | None:
    if not 0 <= timeout_us <= MAX_DEADLINE_US:
        raise RequestError(
            f"parameter timeout: expected 0 (the default deadline) to {MAX_DEADLINE_US} microseconds, got {timeout_us}"
        )
    return timeout_us / 1e6 or None


def encode_response(
    model: str, version: str, request: InferRequest, outputs: Mapping[str, Array]
) -> tuple[list[bytes], int | None]:
    """The answer's body in parts, and the length of its JSON part where tensors follow it (else None)."""
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, binary in request.outputs:
        array = outputs[name]
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array.dtype),
            "shape": array.shape,
        }
        if binary:
            data = array.tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            tensor["data"] = array.ravel().tolist()
        described.append(tensor)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id:
        answer["id"] = request.id
    head = _encode(answer)
    return [head, *tail], len(head) if tail else None


def header_length(value: bytes) -> int:
    """``Inference-Header-Content-Length`` as a number.

    Raises:
        RequestError: it is none.
    """
    if not value.isdigit() or len(value) > len(str(2**63)):
        raise RequestError(
            "header Inference-Header-Content-Length: expected a number of bytes, "
            f"got {value.decode('latin-1')!r}",
            HTTPStatus.BAD_REQUEST,
        )
    return int(value)
