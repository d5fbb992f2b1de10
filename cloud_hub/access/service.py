"""Make and check bearer tokens."""

import hashlib
import secrets
from enum import StrEnum

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.ids import NAME_PATTERN, is_name
from cloud_hub.access.models import AccessToken
from cloud_hub.errors import AuthenticationError, ConflictError, ForbiddenError, InputError

TOKEN_PREFIX = "ewh_"  # noqa: S105 - a prefix, not a secret


class Role(StrEnum):
    """What a token may do. Each role may also read what a viewer reads; an admin may do everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    """Enrol devices, start and steer rollouts."""
    AUTHOR = "author"
    """Upload and submit releases."""
    APPROVER = "approver"
    """Send signatures; the key that makes them is never here."""
    AUDITOR = "auditor"
    """Read and export the audit log."""
    ADMIN = "admin"


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, as its token says."""

    name: str
    role: Role

    def may(self, *roles: Role) -> bool:
        return self.role is Role.ADMIN or Role.VIEWER in roles or self.role in roles

    def require(self, *roles: Role) -> None:
        """Raises ForbiddenError unless the role is one of ``roles``."""
        if not self.may(*roles):
            wanted = " or ".join(sorted({*roles, Role.ADMIN}))
            raise ForbiddenError(f"{self.name} has the role {self.role}; this needs {wanted}")


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(session: Session, *, name: str, role: Role, now: float) -> str:
    """Store a new token's hash and return the token, which is seen this once.

    Raises:
        InputError: ``name`` breaks the rule of names.
        ConflictError: there is a token of that name.
    """
    if not is_name(name):
        raise InputError(f"token name {name!r}: allowed is {NAME_PATTERN}")
    if session.get(AccessToken, name) is not None:
        raise ConflictError(f"there is a token named {name!r} already")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    session.add(AccessToken(name=name, role=role.value, sha256=hash_secret(secret), created=now))
    return secret


def authenticate(session: Session, secret: str) -> Caller:
    """Raises AuthenticationError when the token is not known."""
    row = session.scalar(select(AccessToken).where(AccessToken.sha256 == hash_secret(secret)))
    if row is None:
        raise AuthenticationError("this bearer token is not known to the hub")
    return Caller(name=row.name, role=Role(row.role))
