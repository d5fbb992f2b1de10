"""The Open Inference Protocol's inference requests: JSON, the binary tensor extension, raw bytes, shared memory.

Specification: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and Triton's
``extension_binary_data.md``. With the header ``Inference-Header-Content-Length: N`` the first N bytes of a body are
JSON and each tensor that says ``binary_data_size`` follows, in the order of the JSON; with N = 0 all of the body is the
one tensor. Answers: :mod:`agent.runner.responses`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import BYTES, DTYPES, Array
from agent.runner.backends.datatypes import BYTES_DTYPE
from agent.runner.errors import RequestError
from agent.runner.request_facts import NO_FACTS, NO_VALUE, RequestFacts, facts_of
from agent.runner.shared_memory import Regions
from agent.runner.tensors import check_rows, check_size, check_tensor, from_binary, from_json

MAX_DEADLINE_US = 3_600_000_000
"""The longest ``timeout`` a request may ask for: one hour."""

MAX_CLASSES = 65_536
"""The most that the parameter ``classification`` may ask for."""

_PLANS = 64
"""Requests whose JSON is remembered: a client repeats its own word for word, and only the tensors differ."""

_PLANNED_BYTES = 4096
"""A longer JSON is not remembered."""

_ID_FIRST = re.compile(rb'\{ ?"id" ?: ?"([ !#-\[\]-~]{1,128})"')
"""A JSON that begins with a plain id, as tritonclient's does: what follows repeats as JSON without an id does."""


class _InputParameters(Struct):
    binary_data_size: int | UnsetType = UNSET
    shared_memory_region: str | UnsetType = UNSET
    shared_memory_byte_size: int = 0
    shared_memory_offset: int = 0


class _Input(Struct):
    name: str
    datatype: str
    shape: list[int]
    data: Any = UNSET
    parameters: _InputParameters | None = None


class _OutputParameters(Struct):
    binary_data: bool | UnsetType = UNSET
    classification: int = 0
    shared_memory_region: str | UnsetType = UNSET
    shared_memory_byte_size: int = 0
    shared_memory_offset: int = 0


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


_NO_INPUT_PARAMETERS, _NO_OUTPUT_PARAMETERS = _InputParameters(), _OutputParameters()
_NO_PARAMETERS = _RequestParameters()


def _request_type(parameter: str | None) -> type[_Request]:
    """Requests, of whose parameters ``parameter`` is kept as it came, in ``watched``."""
    if parameter is None:
        return _Request
    parameters = msgspec.defstruct(
        "_WatchedParameters",
        [("watched", msgspec.Raw, NO_VALUE)],
        bases=(_RequestParameters,),
        rename={"watched": parameter},
    )
    fields = [("parameters", parameters | None, None)]
    return cast("type[_Request]", msgspec.defstruct("_WatchedRequest", fields, bases=(_Request,)))


class Room(NamedTuple):
    """A part of a shared memory region."""

    region: str
    offset: int
    size: int


class Wanted(NamedTuple):
    """One output as it is asked for."""

    name: str
    binary: bool
    classes: int = 0
    """How many classes to tell; 0: the tensor itself."""
    room: Room | None = None
    """Where to put it instead of into the answer."""


class InferRequest(NamedTuple):
    """One checked request."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[Wanted, ...]
    """In the order asked for."""
    deadline_s: float | None
    """Seconds; None: the server's default."""
    peer: int | None = None
    """Uid of who asks; None over TCP."""
    facts: RequestFacts = NO_FACTS


class Contract:
    """The tensors of one model."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        labels: Sequence[str] = (),
        *,
        parameter: str | None = None,
    ) -> None:
        """``parameter``: of a request, by whose value slices are made."""
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.labels = tuple(labels)
        self.parameter = parameter
        self.input_by_name = {spec.name: spec for spec in inputs}
        self.output_by_name = {spec.name: spec for spec in outputs}
        self._rows_of = next((spec.name for spec in inputs if spec.shape and spec.shape[0] == -1), None)

    def rows(self, inputs: Mapping[str, Array]) -> int:
        """Rows of a checked batch; 1 where the model takes no batches."""
        return 1 if self._rows_of is None else int(inputs[self._rows_of].shape[0])


class _InBody(NamedTuple):
    spec: TensorSpec
    shape: tuple[int, ...]
    start: int
    size: int

    def take(self, body: bytes, _peer: int | None) -> Array:
        return from_binary(self.spec, self.shape, body, self.start, self.size)


class _InRegion(NamedTuple):
    spec: TensorSpec
    shape: tuple[int, ...]
    regions: Regions
    room: Room

    def take(self, _body: bytes, peer: int | None) -> Array:
        room = self.room
        data = self.regions.read(peer, room.region, room.offset, room.size)
        return from_binary(self.spec, self.shape, data, 0, room.size)


class _AllOfBody(NamedTuple):
    """The body is the one element of a BYTES tensor, without its length."""

    spec: TensorSpec
    shape: tuple[int, ...]

    def take(self, body: bytes, _peer: int | None) -> Array:
        array: Array = np.empty(self.shape, BYTES_DTYPE)
        array.flat[0] = body
        return array


class _InJson(NamedTuple):
    spec: TensorSpec
    shape: tuple[int, ...]
    data: Any

    def take(self, _body: bytes, _peer: int | None) -> Array:
        return from_json(self.spec, self.shape, self.data)


_Source: TypeAlias = _InBody | _AllOfBody | _InRegion | _InJson
"""Where one tensor comes from."""


class _Plan(NamedTuple):
    """All that a request says apart from the tensors that follow its JSON, checked."""

    id: str
    sources: tuple[_Source, ...]
    outputs: tuple[Wanted, ...]
    deadline_s: float | None
    body_bytes: int
    """What its body must have."""
    facts: RequestFacts = NO_FACTS


class Decoder:
    """Takes requests to one model apart and checks them."""

    def __init__(self, contract: Contract, regions: Regions) -> None:
        self._contract = contract
        self._regions = regions
        self._plans: dict[bytes, _Plan] = {}
        self._decode = msgspec.json.Decoder(_request_type(contract.parameter)).decode

    def decode(self, body: bytes, header_length: int | None, peer: int | None = None) -> InferRequest:
        """Take a request apart and check it.

        Args:
            body: the whole body, not compressed.
            header_length: ``Inference-Header-Content-Length``; None: the body is JSON alone; 0: it is one tensor alone.
            peer: uid of who asks; None over TCP.

        Raises:
            RequestError: what is wrong, where, and what is allowed.
        """
        plan, request_id = self._known(body, header_length)
        if plan is None:
            plan = self._raw(len(body)) if header_length == 0 else self._plan(body, header_length)
            request_id = plan.id
        inputs = {source.spec.name: source.take(body, peer) for source in plan.sources}
        for wanted in plan.outputs:
            if wanted.room is not None:
                self._regions.check(peer, *wanted.room)
        facts = plan.facts
        if request_id != plan.id:
            facts = RequestFacts(request_id, facts.value)  # of a plan that is known: plain, and short enough
        return InferRequest(request_id, inputs, plan.outputs, plan.deadline_s, peer, facts)

    def _plan(self, body: bytes, header_length: int | None) -> _Plan:
        length = len(body) if header_length is None else header_length
        if header_length is not None and not 0 < length <= len(body):
            raise RequestError(
                f"header Inference-Header-Content-Length: expected 0 to {len(body)} (the body), got {header_length}"
            )
        head = body[:length]
        try:
            request = self._decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"request: {error}") from error
        parameters = request.parameters or _NO_PARAMETERS
        plan = _Plan(
            request.id,
            self._sources(request.inputs, length, len(body)),
            _wanted(request.outputs, self._contract, binary_by_default=parameters.binary_data_output),
            _deadline(parameters.timeout),
            len(body),
            facts_of(request.id, getattr(parameters, "watched", NO_VALUE)),
        )
        if length <= _PLANNED_BYTES and not any(isinstance(source, _InJson) for source in plan.sources):
            self._remember(head, plan)
        return plan

    def _known(self, body: bytes, header_length: int | None) -> tuple[_Plan | None, str]:
        """The plan for a JSON that has been seen before, and this one's id."""
        length = len(body) if header_length is None else header_length
        if not 0 < length <= _PLANNED_BYTES or (header_length is None and b'"data"' in body):
            return None, ""
        head, request_id = body[:length], ""
        if (first := _ID_FIRST.match(head)) is not None:
            head, request_id = head[first.end() :], first[1].decode()
        plan = self._plans.get(head)
        return (plan if plan is not None and plan.body_bytes == len(body) else None), request_id

    def _remember(self, head: bytes, plan: _Plan) -> None:
        if plan.id:
            first = _ID_FIRST.match(head)
            # A second "id" further on, written plainly or with escapes, would be the one that counts.
            if first is None or b'"id"' in head[first.end() :] or b"\\" in head:
                return
            head = head[first.end() :]
        if len(self._plans) >= _PLANS:
            self._plans.clear()
        self._plans[head] = plan

    def _sources(self, given: list[_Input], start: int, end: int) -> tuple[_Source, ...]:
        contract = self._contract
        sources: dict[str, _Source] = {}
        for tensor in given:
            spec = contract.input_by_name.get(tensor.name)
            if spec is None or tensor.name in sources:
                what = "unknown" if spec is None else "given twice"
                raise RequestError(
                    f"input {tensor.name!r} is {what}; this model takes: {', '.join(contract.input_by_name)}"
                )
            shape = check_tensor(spec, tensor.datatype, tensor.shape)
            source = self._source(spec, shape, tensor, start, end)
            sources[tensor.name] = source
            start += source.size if isinstance(source, _InBody) else 0
        if start != end:
            raise RequestError(
                f"request: {end - start} bytes follow the last tensor's data; check binary_data_size"
            )
        if len(sources) < len(contract.inputs):
            missing = next(name for name in contract.input_by_name if name not in sources)
            raise RequestError(
                f"input {missing!r} is missing; this model takes: {', '.join(contract.input_by_name)}"
            )
        if len(sources) > 1:
            check_rows(contract.inputs, {name: source.shape for name, source in sources.items()})
        return tuple(sources.values())

    def _source(
        self, spec: TensorSpec, shape: tuple[int, ...], tensor: _Input, start: int, end: int
    ) -> _Source:
        parameters = tensor.parameters or _NO_INPUT_PARAMETERS
        region, size = parameters.shared_memory_region, parameters.binary_data_size
        if (region is UNSET) + (size is UNSET) + (tensor.data is UNSET) != 2:  # noqa: PLR2004 (all but one)
            raise RequestError(
                f"input {spec.name!r}: expected one of 'data', the parameter binary_data_size, "
                "the parameter shared_memory_region"
            )
        if tensor.data is not UNSET:
            return _InJson(spec, shape, tensor.data)
        if not isinstance(region, UnsetType):
            check_size(spec, shape, parameters.shared_memory_byte_size)
            room = Room(region, parameters.shared_memory_offset, parameters.shared_memory_byte_size)
            return _InRegion(spec, shape, self._regions, room)
        if isinstance(size, UnsetType) or not 0 <= size <= end - start:
            raise RequestError(
                f"input {spec.name!r}: binary_data_size is {size}, {end - start} bytes are left in the body"
            )
        check_size(spec, shape, size)
        return _InBody(spec, shape, start, size)

    def _raw(self, size: int) -> _Plan:
        contract = self._contract
        if len(contract.inputs) != 1:
            raise RequestError(
                "header Inference-Header-Content-Length: 0 (the body is the tensor) is for models with one input; "
                f"this model takes: {', '.join(contract.input_by_name)}"
            )
        (spec,) = contract.inputs
        shape = raw_shape(spec, size)
        source: _Source = _AllOfBody(spec, shape) if spec.datatype == BYTES else _InBody(spec, shape, 0, size)
        outputs = _wanted(None, contract, binary_by_default=True)
        return _Plan("", (source,), outputs, None, size)


def raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """The shape of a tensor that comes as ``size`` bytes and nothing else.

    One open dimension follows from the size. Of two of which the first is the rows', the rows are one. For BYTES all of it
    is one element.

    Raises:
        RequestError: the size fits no shape, or more than one.
    """
    if spec.datatype == BYTES:
        if not set(spec.shape) <= {1, -1}:
            raise RequestError(
                f"input {spec.name!r}: a body is one BYTES element, the shape is {list(spec.shape)}"
            )
        return (1,) * len(spec.shape)
    shape = list(spec.shape)
    if shape.count(-1) == 2 and shape[0] == -1:  # noqa: PLR2004 (rows and another)
        shape[0] = 1
    unit = math.prod(dimension for dimension in shape if dimension != -1) * DTYPES[spec.datatype].itemsize
    open_dimensions = shape.count(-1)
    if open_dimensions > 1:
        raise RequestError(f"input {spec.name!r}: the size of a body can't tell the shape {list(spec.shape)}")
    if size == 0 or size % unit or (not open_dimensions and size != unit):
        what = f"{unit} bytes" if not open_dimensions else f"a multiple of {unit} bytes"
        raise RequestError(
            f"input {spec.name!r}: expected {what} for {spec.datatype} of shape {list(spec.shape)}, got {size}"
        )
    return tuple(size // unit if dimension == -1 else dimension for dimension in shape)


def _wanted(
    asked: list[_Output] | None, contract: Contract, *, binary_by_default: bool
) -> tuple[Wanted, ...]:
    if not asked:
        return tuple(Wanted(name, binary_by_default) for name in contract.output_by_name)
    wanted: dict[str, Wanted] = {}
    for output in asked:
        spec = contract.output_by_name.get(output.name)
        if spec is None or output.name in wanted:
            what = "unknown" if spec is None else "asked for twice"
            raise RequestError(
                f"output {output.name!r} is {what}; this model gives: {', '.join(contract.output_by_name)}"
            )
        wanted[output.name] = _one_wanted(spec, output.parameters or _NO_OUTPUT_PARAMETERS, binary_by_default)
    return tuple(wanted.values())


def _one_wanted(spec: TensorSpec, parameters: _OutputParameters, default: bool) -> Wanted:  # noqa: FBT001
    where = f"output {spec.name!r}"
    classes = parameters.classification
    if not 0 <= classes <= MAX_CLASSES:
        raise RequestError(
            f"{where}: classification: expected 0 (off) to {MAX_CLASSES} classes, got {classes}"
        )
    if classes and spec.datatype == BYTES:
        raise RequestError(f"{where}: BYTES have no highest values that classification could tell")
    binary = default if isinstance(parameters.binary_data, UnsetType) else parameters.binary_data
    if isinstance(parameters.shared_memory_region, UnsetType):
        return Wanted(spec.name, binary, classes)
    room = Room(
        parameters.shared_memory_region, parameters.shared_memory_offset, parameters.shared_memory_byte_size
    )
    if classes or parameters.binary_data is True:
        other = "classification" if classes else "binary_data"
        raise RequestError(f"{where}: expected one of the parameters {other} and shared_memory_region")
    return Wanted(spec.name, binary=False, room=room)


def _deadline(timeout_us: int) -> float | None:
    if not 0 <= timeout_us <= MAX_DEADLINE_US:
        raise RequestError(
            f"parameter timeout: expected 0 (the default deadline) to {MAX_DEADLINE_US} microseconds, got {timeout_us}"
        )
    return timeout_us / 1e6 or None


@lru_cache(maxsize=64)
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
