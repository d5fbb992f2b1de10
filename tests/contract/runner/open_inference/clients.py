"""Three clients with one face, tritonclient's: itself, its aio twin, and httpx over a Unix socket."""

import asyncio
import gzip
import inspect
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import httpx
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class Raw(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes


class Client(Protocol):
    """tritonclient's methods, and :meth:`send` for what it has none for."""

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Raw: ...

    def at_once(self, requests: list[dict[str, Any]]) -> list[triton.InferResult]:
        """Many requests under way at the same time."""
        ...

    def close(self) -> None: ...

    def __getattr__(self, name: str) -> Any: ...


class SyncClient:
    """tritonclient over TCP."""

    def __init__(self, address: str, _unix: Path) -> None:
        self._client = triton.InferenceServerClient(address, concurrency=4)

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Raw:
        if method == "GET":
            answer = self._client._get(path, headers or {}, None)
        else:
            answer = self._client._post(path, body, headers or {}, None)
        return Raw(answer.status_code, {name.lower(): value for name, value in answer.items()}, answer.read())

    def at_once(self, requests: list[dict[str, Any]]) -> list[triton.InferResult]:
        waiting = [self._client.async_infer(**request) for request in requests]
        return [each.get_result() for each in waiting]

    def close(self) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class AioClient:
    """tritonclient's aio twin over TCP; every method is run to its end."""

    def __init__(self, address: str, _unix: Path) -> None:
        self._loop = asyncio.Runner()
        self._client = self._run(self._made(address))

    @staticmethod
    async def _made(address: str) -> triton_aio.InferenceServerClient:
        return triton_aio.InferenceServerClient(address)

    def _run(self, waiting: Any) -> Any:
        return self._loop.run(waiting)

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Raw:
        async def sent() -> Raw:
            if method == "GET":
                answer = await self._client._get(path, headers or {}, None)
            else:
                answer = await self._client._post(path, body, headers or {}, None)
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Raw(answer.status, told, await answer.read())

        result: Raw = self._run(sent())
        return result

    def at_once(self, requests: list[dict[str, Any]]) -> list[triton.InferResult]:
        async def all_of_them() -> list[triton.InferResult]:
            return list(await asyncio.gather(*(self._client.infer(**request) for request in requests)))

        results: list[triton.InferResult] = self._run(all_of_them())
        return results

    def close(self) -> None:
        self._run(self._client.close())
        self._loop.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        assert inspect.iscoroutinefunction(method), name
        return lambda *given, **named: self._run(method(*given, **named))


class UnixClient:
    """httpx over the runner's Unix socket; bodies are written and read by tritonclient's own functions."""

    def __init__(self, _address: str, unix: Path) -> None:
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(unix)), base_url="http://unix", timeout=30
        )

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Raw:
        with self._http.stream(method, f"/{path}", content=body, headers=headers) as answer:
            return Raw(answer.status_code, dict(answer.headers), b"".join(answer.iter_raw()))

    def at_once(self, requests: list[dict[str, Any]]) -> list[triton.InferResult]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda request: self.infer(**request), requests))

    def close(self) -> None:
        self._http.close()

    def infer(
        self,
        model_name: str,
        inputs: list[triton.InferInput],
        model_version: str = "",
        *,
        outputs: list[triton.InferRequestedOutput] | None = None,
        request_id: str = "",
        timeout: int | None = None,
        parameters: dict[str, Any] | None = None,
        request_compression_algorithm: str | None = None,
        response_compression_algorithm: str | None = None,
    ) -> triton.InferResult:
        body, length = triton.InferenceServerClient.generate_request_body(
            inputs, outputs=outputs, request_id=request_id, timeout=timeout, parameters=parameters
        )
        headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
        if request_compression_algorithm is not None:
            headers["Content-Encoding"] = request_compression_algorithm
            body = COMPRESSED[request_compression_algorithm](body)
        if response_compression_algorithm is not None:
            headers["Accept-Encoding"] = response_compression_algorithm
        version = f"/versions/{model_version}" if model_version else ""
        answer = self._good(self.send("POST", f"v2/models/{quote(model_name)}{version}/infer", body, headers))
        told = answer.headers.get("inference-header-content-length")
        return triton.InferenceServerClient.parse_response_body(
            answer.body,
            header_length=None if told is None else int(told),
            content_encoding=answer.headers.get("content-encoding"),
        )

    @staticmethod
    def _good(answer: Raw) -> Raw:
        if answer.status != 200:
            raise InferenceServerException(
                httpx.Response(200, content=answer.body).json()["error"], str(answer.status)
            )
        return answer

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = b"" if body is None else httpx.Request("POST", "http://unix", json=body).content
        answer = self._good(self.send(method, path, content))
        return httpx.Response(200, content=answer.body).json() if answer.body else None

    def _ok(self, path: str) -> bool:
        return self.send("GET", path).status == 200

    def is_server_live(self) -> bool:
        return self._ok("v2/health/live")

    def is_server_ready(self) -> bool:
        return self._ok("v2/health/ready")

    def is_model_ready(self, model: str, version: str = "") -> bool:
        return self._ok(_model(model, version) + "/ready")

    def get_server_metadata(self) -> Any:
        return self._json("GET", "v2")

    def get_model_metadata(self, model: str, version: str = "") -> Any:
        return self._json("GET", _model(model, version))

    def get_model_config(self, model: str, version: str = "") -> Any:
        return self._json("GET", _model(model, version) + "/config")

    def get_inference_statistics(self, model: str = "", version: str = "") -> Any:
        return self._json("GET", _model(model, version) + "/stats" if model else "v2/models/stats")

    def get_model_repository_index(self) -> Any:
        return self._json("POST", "v2/repository/index")

    def load_model(self, model: str) -> Any:
        return self._json("POST", f"v2/repository/models/{model}/load", {})

    def unload_model(self, model: str) -> Any:
        return self._json(
            "POST", f"v2/repository/models/{model}/unload", {"parameters": {"unload_dependents": False}}
        )

    def register_system_shared_memory(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        body = {"key": key, "offset": offset, "byte_size": byte_size}
        self._json("POST", _region("system", name) + "/register", body)

    def unregister_system_shared_memory(self, name: str = "") -> None:
        self._json("POST", _region("system", name) + "/unregister")

    def get_system_shared_memory_status(self, name: str = "") -> Any:
        return self._json("GET", _region("system", name) + "/status")

    def register_cuda_shared_memory(
        self, name: str, raw_handle: bytes, device_id: int, byte_size: int
    ) -> None:
        body = {"raw_handle": {"b64": raw_handle.decode()}, "device_id": device_id, "byte_size": byte_size}
        self._json("POST", _region("cuda", name) + "/register", body)

    def unregister_cuda_shared_memory(self, name: str = "") -> None:
        self._json("POST", _region("cuda", name) + "/unregister")

    def get_cuda_shared_memory_status(self, name: str = "") -> Any:
        return self._json("GET", _region("cuda", name) + "/status")

    def update_trace_settings(
        self, model_name: str | None = None, settings: dict[str, Any] | None = None
    ) -> Any:
        return self._json(
            "POST",
            "v2/trace/setting" if model_name is None else f"{_model(model_name)}/trace/setting",
            settings or {},
        )

    def get_trace_settings(self, model_name: str | None = None) -> Any:
        return self._json(
            "GET", "v2/trace/setting" if model_name is None else f"{_model(model_name)}/trace/setting"
        )

    def update_log_settings(self, settings: dict[str, Any]) -> Any:
        return self._json("POST", "v2/logging", settings)

    def get_log_settings(self) -> Any:
        return self._json("GET", "v2/logging")


def _model(name: str, version: str = "") -> str:
    return f"v2/models/{quote(name)}" + (f"/versions/{version}" if version else "")


def _region(kind: str, name: str) -> str:
    return f"v2/{kind}sharedmemory" + (f"/region/{quote(name)}" if name else "")


CLIENTS: dict[str, Callable[[str, Path], Any]] = {
    "tritonclient": SyncClient,
    "tritonclient-aio": AioClient,
    "httpx-unix": UnixClient,
}
