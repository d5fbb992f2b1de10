"""From a request to its caller."""

from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency

from cloud_hub.access.service import Caller, authenticate
from cloud_hub.errors import AuthenticationError
from cloud_hub.hub import Hub

SCHEME = "bearer"
HubPart = NamedDependency[Hub]
CallerPart = NamedDependency[Caller]


def provide_hub(state: State) -> Hub:
    """Dependency ``hub``."""
    hub = state.hub
    if not isinstance(hub, Hub):
        raise TypeError("app.state.hub is not set")
    return hub


def provide_caller(request: Request[Any, Any, Any], hub: HubPart) -> Caller:
    """Dependency ``caller``: who the bearer token belongs to.

    Raises:
        AuthenticationError: no token, or an unknown one.
    """
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != SCHEME or not secret:
        raise AuthenticationError(
            "send a token: Authorization: Bearer <token>; make one with: edgeward-hub token create"
        )
    return hub.database.read(lambda session: authenticate(session, secret.strip()))
