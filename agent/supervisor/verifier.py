"""Runs the verifier: a short-lived child that parses untrusted metadata, and can at worst refuse."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence

from agent.protocol.errors import MessageTooLargeError
from agent.protocol.limits import MAX_METADATA_BYTES
from agent.protocol.state import Reason
from agent.protocol.transfer import METADATA_NAME_PATTERN
from agent.protocol.verification import (
    FetchedMetadata,
    FetchMetadata,
    FromVerifier,
    VerifyRequest,
    VerifyResult,
)
from agent.supervisor.children import Child, module_command, spawn_child
from agent.supervisor.errors import ChannelClosedError, ChannelProtocolError

_log = logging.getLogger(__name__)

Fetch = Callable[[str, int], Awaitable[FetchedMetadata]]
"""Name and the most bytes that are of use → the file, from the hub."""

VERIFIER_COMMAND = module_command("agent.trust")

_MAXIMUM_FETCHES = 600
"""python-tuf follows at most 256 new roots; the rest is timestamp, snapshot, targets and a role a model."""

_GOODBYE_SECONDS = 1.0
_METADATA_NAME = re.compile(METADATA_NAME_PATTERN)


async def verify(
    request: VerifyRequest,
    fetch: Fetch,
    *,
    timeout_seconds: float,
    command: Sequence[str] = VERIFIER_COMMAND,
) -> VerifyResult:
    """Check the director's document and refresh the repository, in a process of its own.

    Never raises for what the child does or is fed. Its own refusals come through; further codes of ``refusal`` are
    ``verifier-died``, ``verifier-timeout``, ``verifier-protocol`` and ``verifier-not-started``. What ``fetch`` raises is
    told to the child as an error of that fetch.
    """
    try:
        child = await spawn_child(command, "--fd", FromVerifier)
    except OSError as error:
        return _refusal("verifier-not-started", f"the verifier can't be started: {error}")
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _converse(child, request, fetch)
    except TimeoutError:
        return _refusal("verifier-timeout", f"the verifier had not finished after {timeout_seconds:g} s")
    except ChannelProtocolError as error:
        return _refusal("verifier-protocol", f"the verifier broke its protocol: {error}")
    except ChannelClosedError:
        code = await _exit_code(child)
        return _refusal("verifier-died", f"the verifier died without a result: {_describe(code)}")
    except MessageTooLargeError as error:
        return _refusal("verifier-protocol", f"too large for the verifier: {error}")
    finally:
        await child.end()


async def _converse(child: Child[FromVerifier], request: VerifyRequest, fetch: Fetch) -> VerifyResult:
    await child.channel.send(request)
    for _ in range(_MAXIMUM_FETCHES):
        message = await child.channel.receive()
        if isinstance(message, VerifyResult):
            return message
        await child.channel.send(await _fetch(message, fetch))
    raise ChannelProtocolError(f"it asked for more than {_MAXIMUM_FETCHES} files")


async def _fetch(asked: FetchMetadata, fetch: Fetch) -> FetchedMetadata:
    if _METADATA_NAME.fullmatch(asked.name) is None:
        raise ChannelProtocolError(f"it asked for {asked.name!r}, which is not the name of a metadata file")
    if asked.maximum_bytes < 1:
        raise ChannelProtocolError(f"it asked for {asked.maximum_bytes} bytes of {asked.name}")
    maximum = min(asked.maximum_bytes, MAX_METADATA_BYTES)
    try:
        fetched = await fetch(asked.name, maximum)
    except Exception as error:  # noqa: BLE001 - any fault of the network side is this fetch's error, not the agent's
        return FetchedMetadata(data=None, error=f"{asked.name}: {error}")
    if fetched.data is not None and len(fetched.data) > maximum:
        return FetchedMetadata(data=None, error=f"{asked.name}: longer than {maximum} bytes")
    return fetched


async def _exit_code(child: Child[FromVerifier]) -> int | None:
    """How it ended; None if it closed its channel and is still there."""
    try:
        async with asyncio.timeout(_GOODBYE_SECONDS):
            return await child.process.wait()
    except TimeoutError:
        return None


def _describe(code: int | None) -> str:
    if code is None:
        return "it closed its channel"
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _refusal(code: str, text: str) -> VerifyResult:
    _log.warning("verification refused", extra={"code": code, "reason": text})
    return VerifyResult(refusal=Reason(code=code, text=text))
