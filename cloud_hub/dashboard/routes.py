"""The pages: fleet, devices, one device, releases, one release, requests and notices."""

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar

from litestar import Controller, MediaType, Request, Response, get
from litestar.datastructures import Cookie
from litestar.params import FromPath, FromQuery
from sqlalchemy.orm import Session

from cloud_hub.access.guard import HubPart
from cloud_hub.access.service import Role, authenticate
from cloud_hub.dashboard import addresses, reading
from cloud_hub.dashboard.rendering import HEADERS, Frame, render
from cloud_hub.dashboard.words import stamp
from cloud_hub.errors import AuthenticationError, HubError
from cloud_hub.hub import Hub

COOKIE = "edgeward_token"
REFRESH_SECONDS = 30
"""Of the first page, which hangs on walls."""

AnyRequest = Request[Any, Any, Any]
P = TypeVar("P")


def _as_page(request: AnyRequest, error: HubError) -> Response[str]:
    """What went wrong, to somebody who reads a page."""
    hub: Hub = request.app.state["hub"]
    # Links lead nowhere without a token; who has none is told how to come in, and nothing about the fleet.
    known = not isinstance(error, AuthenticationError)
    frame = _frame(hub, request.url.path, linked=known)
    html = render("problem.html.j2", frame, {"title": error.title, "text": str(error)})
    return Response(html, status_code=error.status, media_type=MediaType.HTML, headers=HEADERS)


class DashboardController(Controller):
    include_in_schema = False
    exception_handlers = {HubError: _as_page}  # noqa: RUF012 - as Litestar reads it

    @get(addresses.FLEET, sync_to_thread=True, media_type=MediaType.HTML)
    def fleet(self, request: AnyRequest, hub: HubPart) -> Response[str]:
        """What is wrong first, then how the fleet stands."""
        return _show(request, hub, "fleet.html.j2", reading.fleet, refresh=REFRESH_SECONDS)

    @get(addresses.DEVICES, sync_to_thread=True, media_type=MediaType.HTML)
    def devices(
        self, request: AnyRequest, hub: HubPart, find: FromQuery[str] = "", page: FromQuery[int] = 1
    ) -> Response[str]:
        """Every device, the worst first."""
        return _show(
            request,
            hub,
            "devices.html.j2",
            lambda session, hub: reading.all_devices(session, hub, find=find, page=page),
        )

    @get(f"{addresses.DEVICES}/{{name:str}}", sync_to_thread=True, media_type=MediaType.HTML)
    def device(self, request: AnyRequest, hub: HubPart, name: FromPath[str]) -> Response[str]:
        """One device."""
        return _show(request, hub, "device.html.j2", lambda session, hub: reading.device(session, hub, name))

    @get(addresses.RELEASES, sync_to_thread=True, media_type=MediaType.HTML)
    def releases(self, request: AnyRequest, hub: HubPart) -> Response[str]:
        """Releases, rollouts, and who may sign."""
        return _show(request, hub, "releases.html.j2", reading.releases)

    @get(addresses.NOTICES, sync_to_thread=True, media_type=MediaType.HTML)
    def notices(self, request: AnyRequest, hub: HubPart) -> Response[str]:
        """Requests to retrain, and notices."""
        return _show(request, hub, "notices.html.j2", reading.notices)

    @get(addresses.SAMPLES, sync_to_thread=True, media_type=MediaType.HTML)
    def samples(self, request: AnyRequest, hub: HubPart) -> Response[str]:
        """Requests for samples of inputs."""
        return _show(request, hub, "samples.html.j2", reading.samples)

    @get(f"{addresses.RELEASES}/{{model:str}}/{{number:int}}", sync_to_thread=True, media_type=MediaType.HTML)
    def release(
        self,
        request: AnyRequest,
        hub: HubPart,
        model: FromPath[str],
        number: FromPath[int],
        slice: FromQuery[str] = "",  # noqa: A002 - the word in the address
    ) -> Response[str]:
        """One release over the fleet."""
        return _show(
            request,
            hub,
            "release.html.j2",
            lambda session, hub: reading.release(session, hub, model, number, slice),
        )


def _show(
    request: AnyRequest, hub: Hub, template: str, read: Callable[[Session, Hub], P], *, refresh: int = 0
) -> Response[str]:
    """One page, to whom it may be shown."""
    offered = request.query_params.get("token") or request.cookies.get(COOKIE)
    if not _open_to(request, hub):
        _check(hub, offered)
    page, waiting = hub.database.read(lambda session: (read(session, hub), reading.waiting(session)))
    html = render(template, _frame(hub, request.url.path, waiting=waiting, refresh=refresh), page)
    cookies = (
        [Cookie(key=COOKIE, value=offered, httponly=True, samesite="strict", path="/")]
        if offered and "token" in request.query_params
        else []
    )
    return Response(html, media_type=MediaType.HTML, headers=HEADERS, cookies=cookies)


def _frame(hub: Hub, path: str, *, waiting: int = 0, refresh: int = 0, linked: bool = True) -> Frame:
    """``waiting``: requests that nobody has taken up."""
    links = (
        (addresses.FLEET, "Fleet", 0),
        (addresses.DEVICES, "Devices", 0),
        (addresses.RELEASES, "Releases", 0),
        (addresses.NOTICES, "Requests and notices", waiting),
        (addresses.SAMPLES, "Samples", 0),
    )
    here = [
        address for address, _, _ in links if path == address or path.startswith(f"{address.rstrip('/')}/")
    ]
    return Frame(
        title=hub.config.dashboard.title,
        time=stamp(hub.now()),
        here=max(here, key=len, default=""),
        links=links if linked else (),
        refresh_seconds=refresh,
    )


def _open_to(request: AnyRequest, hub: Hub) -> bool:
    """Open only by configuration, to a client on this machine that also asked for this machine by name.

    The second half keeps a web page of a stranger from reading ours by DNS rebinding.
    """
    if not hub.config.dashboard.open_on_loopback or request.client is None:
        return False
    host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    return _is_loopback(request.client.host) and (host == "localhost" or _is_loopback(host))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _check(hub: Hub, token: str | None) -> None:
    if not token:
        raise AuthenticationError(
            "open the page with ?token=<a viewer's token>, or set dashboard.open_on_loopback"
        )
    hub.database.read(lambda session: authenticate(session, token)).require(Role.VIEWER)
