"""The hub as an approver's client reads it: bytes with a size limit, and errors in plain words."""

import hashlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import BinaryIO

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from agent.protocol.limits import MAX_MANIFEST_BYTES, MAX_METADATA_BYTES
from agent.protocol.words import one_line
from cloud_hub.approvals.difference import AddedFile
from cloud_hub.signing.errors import DraftRefusedError, HubAnswerError
from cloud_hub.signing.keys import NAME_CHARACTERS

TIMEOUT_SECONDS = 30.0


class Receipt(Struct, frozen=True, kw_only=True):
    """What the hub says after a signature."""

    threshold: int
    signed_by: tuple[str, ...]
    published: bool

    def __post_init__(self) -> None:
        force_setattr(self, "signed_by", tuple(one_line(name, NAME_CHARACTERS) for name in self.signed_by))


class RemoteHub:
    """The endpoints that approving needs. ``client`` carries base URL and bearer token, and follows no redirect."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def draft(self, model: str) -> bytes:
        """The model's open draft.

        Raises:
            HubAnswerError: there is none, or the hub can't be asked.
        """
        return self._read(f"/v1/models/{model}/draft", MAX_METADATA_BYTES)

    def manifest(self, file: AddedFile) -> bytes:
        """The manifest's bytes, hashed here; raises like :meth:`check_artifact`."""
        chunks: list[bytes] = []
        self._hashed(file, chunks.append, MAX_MANIFEST_BYTES)
        return b"".join(chunks)

    def check_artifact(self, file: AddedFile) -> None:
        """Fetch an artifact and hash it here.

        Raises:
            DraftRefusedError: its bytes are not the ones that the draft names.
            HubAnswerError: the hub can't be asked, or does not have it.
        """
        self._hashed(file, lambda _: None, file.length)

    def fetch_artifact(self, file: AddedFile, out: BinaryIO) -> None:
        """Write an artifact to ``out``, hashed here; raises like :meth:`check_artifact`, when all of it is written."""
        self._hashed(file, out.write, file.length)

    def send_signature(self, model: str, keyid: str, signature: str, version: int) -> Receipt:
        """Hand the signature over.

        Raises:
            HubAnswerError: the hub can't be asked, or says no.
        """
        body = {"keyid": keyid, "sig": signature, "version": version}
        answer = self._post(f"/v1/models/{model}/draft/signatures", body, "the signature")
        try:
            return msgspec.json.decode(answer, type=Receipt)
        except msgspec.DecodeError as error:
            raise HubAnswerError(f"the hub's receipt can't be read: {error}") from error

    def propose_removal(self, model: str, release: int | None) -> None:
        """Have the hub open a draft that takes a release out (None: that renews the role), if it is not open already.

        Raises:
            HubAnswerError: the hub can't be asked, or says no.
        """
        self._post(f"/v1/models/{model}/draft", {"withdraw": release}, "the wish")

    def _post(self, path: str, body: object, what: str) -> bytes:
        try:
            response = self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise HubAnswerError(f"{what} could not be sent: {error}") from error
        if not response.is_success:
            raise HubAnswerError(
                f"the hub refused {what}: {_problem(response.status_code, response.content)}"
            )
        return response.content

    def _read(self, path: str, limit: int) -> bytes:
        data = bytearray()
        for chunk in self._stream(path):
            data += chunk
            if len(data) > limit:
                raise HubAnswerError(f"{path}: more than {limit} bytes")
        return bytes(data)

    def _hashed(self, file: AddedFile, keep: Callable[[bytes], object], limit: int) -> None:
        sha256, length = hashlib.sha256(), 0
        for chunk in self._stream(f"/v1/artifacts/{file.sha256}"):
            length += len(chunk)
            if length > min(file.length, limit):
                break
            sha256.update(chunk)
            keep(chunk)
        if (length, sha256.hexdigest()) != (file.length, file.sha256):
            raise DraftRefusedError(f"{file.filename}: the hub's bytes are not the ones that the draft names")

    def _stream(self, path: str) -> Iterator[bytes]:
        try:
            with self._client.stream("GET", path) as response:
                if response.status_code != HTTPStatus.OK:
                    problem = _problem(response.status_code, response.read())
                    raise HubAnswerError(f"{path}: {problem}")
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise HubAnswerError(f"{path}: the hub can't be asked ({error})") from error


class HttpFetcher(FetcherInterface):
    """Metadata for python-tuf over the same client."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One whole metadata file; raises python-tuf's download errors only."""
        data = bytearray()
        for chunk in self._fetch(url):
            data += chunk
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{url}: more than {max_length} bytes")
        return bytes(data)

    def _fetch(self, url: str) -> Iterator[bytes]:
        # What is raised while this iterates is not wrapped by python-tuf, so it is here.
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code != HTTPStatus.OK:
                    raise DownloadHTTPError(f"{url}: HTTP {response.status_code}", response.status_code)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error


def _problem(status: int, body: bytes) -> str:
    """The detail of an RFC 9457 report as one line, or the bare status."""
    try:
        detail = msgspec.json.decode(body, type=dict[str, object]).get("detail")
    except msgspec.DecodeError:
        detail = None
    return f"{one_line(detail)} (HTTP {status})" if isinstance(detail, str) else f"HTTP {status}"
