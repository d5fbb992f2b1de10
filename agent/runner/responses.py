"""Answers to inference requests: JSON, binary tensors after it, classes, or shared memory.

The JSON before binary tensors depends on what is asked for and on the tensors' shapes alone, so it is made once for each
and remembered.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from agent.runner.backends import BYTES, Array
from agent.runner.classification import classify
from agent.runner.errors import RequestError
from agent.runner.openinference import Contract, InferRequest, Wanted
from agent.runner.shared_memory import Regions
from agent.runner.tensors import to_binary, to_json

Body = tuple[list[bytes], int | None]
"""An answer's body in parts, and the length of its JSON part (None: JSON alone)."""

_HEADS = 64
"""Different answers whose JSON is remembered."""

_Key = tuple[tuple[Wanted, ...], tuple[tuple[int, ...], ...]]

_encode = msgspec.json.encode


class Encoder:
    """Writes the answers of one model."""

    def __init__(self, model: str, version: str, contract: Contract, regions: Regions) -> None:
        self._identity: dict[str, Any] = {"model_name": model, "model_version": version}
        self._contract = contract
        self._regions = regions
        self._datatypes = {spec.name: spec.datatype for spec in contract.outputs}
        self._texts = BYTES in self._datatypes.values()
        self._heads: dict[_Key, bytes] = {}

    def encode(self, request: InferRequest, outputs: Mapping[str, Array]) -> Body:
        """The answer that a request asked for.

        Raises:
            RequestError: a region does not take its tensor, or BYTES are no text and were asked for in JSON.
        """
        wanted = request.outputs
        if self._texts or not all(each.binary and not each.classes for each in wanted):
            return self._encode_any(request, outputs)
        arrays = [outputs[each.name] for each in wanted]
        key = (wanted, tuple([array.shape for array in arrays]))
        head = self._heads.get(key)
        if head is None:
            head = self._head(key, arrays)
        if request.id:
            head = _with_id(head, request.id)
        return [head, *[array.tobytes() for array in arrays]], len(head)

    def _head(self, key: _Key, arrays: list[Array]) -> bytes:
        described = [
            self._described(each, array, binary_data_size=array.nbytes)
            for each, array in zip(key[0], arrays, strict=True)
        ]
        head = _encode({**self._identity, "outputs": described})
        if len(self._heads) >= _HEADS:
            self._heads.clear()
        self._heads[key] = head
        return head

    def _encode_any(self, request: InferRequest, outputs: Mapping[str, Array]) -> Body:
        described: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for wanted in request.outputs:
            array = outputs[wanted.name]
            if wanted.classes:
                array = self._classified(wanted, array)
            if wanted.room is not None:
                data = to_binary(array)
                self._put(request.peer, wanted, data)
                described.append(
                    self._described(
                        wanted,
                        array,
                        shared_memory_region=wanted.room.region,
                        shared_memory_offset=wanted.room.offset,
                        shared_memory_byte_size=len(data),
                    )
                )
            elif wanted.binary:
                data = to_binary(array)
                described.append(self._described(wanted, array, binary_data_size=len(data)))
                tail.append(data)
            else:
                described.append({**self._described(wanted, array), "data": to_json(wanted.name, array)})
        head = _encode({**self._identity, "outputs": described})
        if request.id:
            head = _with_id(head, request.id)
        return [head, *tail], len(head) if tail else None

    def _described(self, wanted: Wanted, array: Array, **parameters: object) -> dict[str, Any]:
        datatype = BYTES if wanted.classes else self._datatypes[wanted.name]
        told: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": array.shape}
        return {**told, "parameters": parameters} if parameters else told

    def _classified(self, wanted: Wanted, array: Array) -> Array:
        shape = self._contract.output_by_name[wanted.name].shape
        batched = bool(shape) and shape[0] == -1
        return classify(array, wanted.classes, batched=batched, labels=self._contract.labels)

    def _put(self, peer: int | None, wanted: Wanted, data: bytes) -> None:
        room = wanted.room
        if room is None:
            return
        if len(data) > room.size:
            raise RequestError(
                f"output {wanted.name!r}: has {len(data)} bytes, shared_memory_byte_size is {room.size}"
            )
        self._regions.write(peer, room.region, room.offset, data)


def _with_id(head: bytes, request_id: str) -> bytes:
    return b'{"id":%b,%b' % (_encode(request_id), head[1:])
