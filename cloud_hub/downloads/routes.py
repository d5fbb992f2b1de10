"""``/v1/artifacts``: for people with a token, and for devices with a signed location."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Controller, Request, Response, route
from litestar.enums import HttpMethod
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from cloud_hub.access.guard import HubPart, provide_caller
from cloud_hub.access.service import Role
from cloud_hub.downloads.locations import claim_of
from cloud_hub.downloads.ranges import Stretch, asked_stretch, names
from cloud_hub.downloads.service import entity_tag
from cloud_hub.errors import ForbiddenError, NotFoundError, PreconditionError
from cloud_hub.hub import Hub

PIECE_BYTES = 256 * 1024
"""What is held in memory of one download; the next piece is read when this one has been taken."""
YEAR_SECONDS = 31_536_000
SIGNED_ONLY = "signed_only"
"""Of the application's state: no tokens are taken."""

AnyRequest = Request[Any, Any, Any]
Sha256 = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$")]


class ArtifactController(Controller):
    path = "/v1/artifacts"
    tags = ("content",)

    @route(
        "/{sha256:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD], media_type="application/octet-stream"
    )
    async def artifact(
        self,
        sha256: Sha256,
        request: AnyRequest,
        hub: HubPart,
        device: Annotated[str | None, QueryParameter()] = None,
        expires: Annotated[str | None, QueryParameter()] = None,
        signature: Annotated[str | None, QueryParameter()] = None,
    ) -> Response[Any]:
        """The bytes of an artifact, or a range of them; check them against the digest you asked for.

        With a token, or with a location that the hub has signed (its query). The entity tag is the digest.
        """
        claim = claim_of(device, expires, signature)
        if claim is None and request.app.state.get(SIGNED_ONLY):
            raise ForbiddenError(
                "here only locations are served that the hub has signed; ask for one over MQTT"
            )
        if claim is None:
            caller = await asyncio.to_thread(provide_caller, request, hub)
            caller.require(Role.VIEWER)
            who = caller.name
        else:
            await asyncio.to_thread(hub.downloads.check, sha256, claim)
            who = claim.device
        stored = await asyncio.to_thread(hub.artifacts.look, sha256)
        if stored is None:
            raise NotFoundError(f"there is no artifact {sha256}")
        return await _answer(request, hub, sha256, stored.size, who)


async def _answer(request: AnyRequest, hub: Hub, sha256: str, size: int, who: str) -> Response[Any]:
    etag, sent = entity_tag(sha256), request.headers
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, max-age={YEAR_SECONDS}, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if "if-match" in sent and not names(sent["if-match"], etag, weak=False):
        raise PreconditionError(f"the artifact's entity tag is {etag}")
    if names(sent.get("if-none-match"), etag, weak=True):
        return Response(b"", status_code=304, headers=headers)
    get = request.method == HttpMethod.GET
    stretch = asked_stretch(size, etag, sent.get("range") if get else None, sent.get("if-range"))
    headers["Content-Length"] = str(stretch.end - stretch.begin)
    if not get:
        return Response(b"", status_code=200, headers=headers, media_type="application/octet-stream")
    if stretch.partial:
        headers["Content-Range"] = stretch.content_range
    pieces = _pieces(hub, sha256, stretch, who)
    first = await anext(pieces)  # refusals and a store that fails come before the head goes out
    return Stream(
        _chained(first, pieces),
        status_code=206 if stretch.partial else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


async def _pieces(hub: Hub, sha256: str, stretch: Stretch, who: str) -> AsyncIterator[bytes]:
    with hub.downloads.turn(who):
        at = stretch.begin
        while True:
            length = min(PIECE_BYTES, stretch.end - at)
            yield await hub.artifacts.read_piece(sha256, at, length) if length else b""
            at += length
            if at >= stretch.end:
                return


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
