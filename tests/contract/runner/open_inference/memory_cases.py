"""Cases with shared memory; tritonclient makes the regions."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm

from tests.contract.runner.open_inference.cases import X, Y, case, close, output, refused, tensor
from tests.contract.runner.open_inference.clients import Client


@contextmanager
def region(byte_size: int) -> Iterator[tuple[shm.SharedMemoryRegion, str]]:
    """A new region and its key."""
    key = f"edgeward-{uuid4().hex}"
    handle = shm.create_shared_memory_region(key, key, byte_size)
    try:
        yield handle, key
    finally:
        shm.destroy_shared_memory_region(handle)


@case
def tensors_in_shared_memory(client: Client) -> None:
    client.unregister_system_shared_memory()
    with region(X.nbytes + 8 + 128) as (handle, key):
        shm.set_shared_memory_region(handle, [X], offset=8)
        client.register_system_shared_memory("in", key, X.nbytes, offset=8)
        client.register_system_shared_memory("out", f"/{key}", 128, offset=X.nbytes + 8)
        given = triton.InferInput("x", X.shape, "FP32").set_shared_memory("in", X.nbytes)
        asked = triton.InferRequestedOutput("y")
        asked.set_shared_memory("out", 96, offset=32)
        for _ in range(2):
            answer = client.infer("tiny", [given], outputs=[asked])
            told = answer.get_output("y")
            assert "data" not in told
            assert told["parameters"]["shared_memory_region"] == "out"
            assert told["parameters"]["shared_memory_byte_size"] == Y.size * 4
            written = shm.get_contents_as_numpy(handle, np.float32, [6, 3], offset=X.nbytes + 8 + 32)
            close(written, Y)
        mixed = client.infer("tiny", [given], outputs=[output()])
        close(mixed.as_numpy("y"), Y)
        client.infer("tiny", [tensor()], outputs=[asked])
        del written
        client.unregister_system_shared_memory()


@case
def regions_are_listed_and_forgotten(client: Client) -> None:
    client.unregister_system_shared_memory()
    with region(64) as (_, key):
        client.register_system_shared_memory("first one", key, 32, offset=16)
        client.register_system_shared_memory("second", key, 64)
        first = {"name": "first one", "key": key, "offset": 16, "byte_size": 32}
        assert client.get_system_shared_memory_status("first one") == [first]
        assert [told["name"] for told in client.get_system_shared_memory_status()] == ["first one", "second"]
        refused(400, "is registered already", client.register_system_shared_memory, "second", key, 64)
        client.unregister_system_shared_memory("first one")
        client.unregister_system_shared_memory("never registered")
        assert [told["name"] for told in client.get_system_shared_memory_status()] == ["second"]
        refused(404, "is not registered", client.get_system_shared_memory_status, "first one")
        client.unregister_system_shared_memory()
        assert client.get_system_shared_memory_status() == []


@case
def bounds_of_shared_memory_hold(client: Client) -> None:
    client.unregister_system_shared_memory()
    with region(64) as (_, key):
        register = client.register_system_shared_memory
        refused(400, "must be a part of the object's 64 bytes", register, "r", key, 65)
        refused(400, "must be a part of the object's 64 bytes", register, "r", key, 64, 1)
        refused(404, "there is no such object", register, "r", f"{key}-not", 64)
        refused(400, "expected '/' and a name", register, "r", "../etc/passwd", 64)
        register("r", key, 48)
        one = X[:1]
        beyond = triton.InferInput("x", one.shape, "FP32").set_shared_memory("r", 16, offset=40)
        refused(400, "16 bytes from 40 are outside its 48 bytes", client.infer, "tiny", [beyond])
        short = triton.InferInput("x", one.shape, "FP32").set_shared_memory("r", 12)
        refused(400, "expected 16 bytes for FP32 of shape [1, 4], got 12", client.infer, "tiny", [short])
        unknown = triton.InferInput("x", one.shape, "FP32").set_shared_memory("other", 16)
        refused(404, "'other' is not registered", client.infer, "tiny", [unknown])
        asked = triton.InferRequestedOutput("y")
        asked.set_shared_memory("r", 8)
        refused(
            400,
            "has 12 bytes, shared_memory_byte_size is 8",
            client.infer,
            "tiny",
            [tensor(one)],
            outputs=[asked],
        )
        client.unregister_system_shared_memory()


@case
def cuda_has_nothing_to_forget(client: Client) -> None:
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("r")
    refused(
        501, "CUDA shared memory is not supported", client.register_cuda_shared_memory, "r", b"AAAA", 0, 64
    )
