"""``GET /``: the page."""

import ipaddress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Controller, MediaType, Request, Response, get
from litestar.datastructures import Cookie
from sqlalchemy.orm import Session

from cloud_hub.access.guard import HubPart
from cloud_hub.access.service import Role, authenticate
from cloud_hub.approvals.service import signatures
from cloud_hub.audit.service import newest
from cloud_hub.dashboard.view import Page, build
from cloud_hub.errors import AuthenticationError
from cloud_hub.fleet.reading import read_facts
from cloud_hub.hub import Hub
from cloud_hub.registry.service import stored_manifest

COOKIE = "edgeward_token"
AUDIT_ENTRIES = 12
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # a token may stand in the address
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)


class DashboardController(Controller):
    include_in_schema = False

    @get("/", sync_to_thread=True, media_type=MediaType.HTML)
    def show(self, request: Request[Any, Any, Any], hub: HubPart) -> Response[str]:
        """What is wrong first, then rollouts, devices, releases, drift, counts."""
        offered = request.query_params.get("token") or request.cookies.get(COOKIE)
        if not _open_to(request, hub):
            _check(hub, offered)
        page = hub.database.read(lambda session: _read(session, hub))
        html = _templates.get_template("page.html.j2").render(page=page)
        cookies = (
            [Cookie(key=COOKIE, value=offered, httponly=True, samesite="strict", path="/")]
            if offered and "token" in request.query_params
            else []
        )
        return Response(html, media_type=MediaType.HTML, headers=HEADERS, cookies=cookies)


def _open_to(request: Request[Any, Any, Any], hub: Hub) -> bool:
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


def _read(session: Session, hub: Hub) -> Page:
    facts = read_facts(session, hub)
    keys = [(release.model, release.release) for release in facts.releases]
    manifests = {key: stored_manifest(session, *key, hub.artifacts) for key in keys}
    return build(
        facts,
        title=hub.config.dashboard.title,
        signatures={key: signatures(session, *key) for key in keys},
        summaries={key: manifest.summary for key, manifest in manifests.items() if manifest},
        audit=newest(session, AUDIT_ENTRIES),
    )
