"""Metadata by asking the parent process: the verifier itself touches no network."""

import re
from collections.abc import Callable, Iterator

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from agent.protocol.limits import MAX_METADATA_BYTES
from agent.protocol.transfer import METADATA_NAME_PATTERN
from agent.protocol.verification import FetchedMetadata
from agent.trust.errors import MALFORMED, RefusedError, UnreachableError

BASE_URL = "edgeward:///"
NOT_FOUND = 404

Fetch = Callable[[str, int], FetchedMetadata]
"""File name and the most bytes it may have → the parent's answer."""

_NAME = re.compile(METADATA_NAME_PATTERN)


class ParentFetcher(FetcherInterface):
    """Gives python-tuf the parent's answers, with "not found" and "no network" kept apart."""

    def __init__(self, fetch: Fetch) -> None:
        self._ask_parent = fetch

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One whole file.

        Raises:
            DownloadHTTPError: 404, the hub has no such file.
            DownloadLengthMismatchError: it is longer than ``max_length`` bytes.
            UnreachableError: the hub could not be asked.
            RefusedError: the name is not one that the hub can have, or the hub answers something else.
        """
        name = url.removeprefix(BASE_URL)
        if not _NAME.fullmatch(name):
            raise RefusedError(MALFORMED, f"{name!r} is not a metadata file name")
        answer = self._ask_parent(name, max_length)
        if answer.error is not None:
            raise UnreachableError(f"{name}: {answer.error}")
        if answer.fault is not None:
            raise RefusedError(MALFORMED, f"{name}: {answer.fault}")
        if answer.data is None:
            raise DownloadHTTPError(f"the hub has no {name}", NOT_FOUND)
        if len(answer.data) > max_length:
            raise DownloadLengthMismatchError(
                f"{name} has {len(answer.data)} bytes, at most {max_length} are allowed"
            )
        return answer.data

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, MAX_METADATA_BYTES),))
