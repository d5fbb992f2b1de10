"""The commands' HTTP client: a bearer token, problem reports as errors, JSON back."""

import argparse
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from agent.protocol.words import one_line
from cloud_hub.errors import HubError, InputError

TIMEOUT_SECONDS = 120.0


class RemoteError(HubError):
    title = "The hub refused"


def add_hub_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hub", default="http://127.0.0.1:8500", metavar="URL", help="the hub (default: %(default)s)"
    )
    parser.add_argument("--token-file", type=Path, required=True, help="file with your bearer token")


def read_token(path: Path) -> str:
    """Raises InputError."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"token file {path}: {error}") from error


class HubClient:
    """One hub, one token."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._client = httpx.Client(
            base_url=arguments.hub,
            headers={"Authorization": f"Bearer {read_token(arguments.token_file)}"},
            timeout=TIMEOUT_SECONDS,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        return self._send("GET", path).json()

    def get_bytes(self, path: str) -> bytes:
        return self._send("GET", path).content

    def post(self, path: str, body: object | None = None) -> Any:
        return self._send("POST", path, json=body).json()

    def delete(self, path: str) -> Any:
        return self._send("DELETE", path).json()

    def post_bytes(self, path: str, content: bytes) -> Any:
        return self._send("POST", path, content=content).json()

    def download(self, path: str, body: object, out: BinaryIO) -> str:
        """Write the answer to ``out`` as it comes; returns its ``Content-Disposition``."""
        try:
            with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise RemoteError(_problem(response))
                out.writelines(response.iter_bytes())
                return str(response.headers.get("content-disposition", ""))
        except httpx.HTTPError as error:
            raise RemoteError(f"POST {path}: the hub broke off: {error}") from error

    def put_json(self, path: str, body: object) -> Any:
        return self._send("PUT", path, json=body).json()

    def put(self, path: str, content: bytes) -> Any:
        return self._send("PUT", path, content=content).json()

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **parts)
        except httpx.HTTPError as error:
            raise RemoteError(f"{method} {path}: the hub does not answer: {error}") from error
        if response.is_error:
            raise RemoteError(_problem(response))
        return response


def _problem(response: httpx.Response) -> str:
    try:
        problem = response.json()
        return one_line(f"{problem['title']}: {problem['detail']}")
    except (ValueError, KeyError, TypeError):
        return one_line(f"status {response.status_code}: {response.text[:200]}")
