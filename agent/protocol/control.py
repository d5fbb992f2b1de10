"""Technician ↔ agent: one JSON line each way over the local control socket."""

from typing import Any, Literal

from msgspec import Struct

Method = Literal["status", "models", "drift", "events", "plan", "hold", "resume", "rollback", "sync"]


class ControlRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: Literal[1] = 1
    method: Method
    model: str | None = None
    limit: int | None = None
    reason: str | None = None


class ControlResponse(Struct, frozen=True, kw_only=True):
    ok: bool
    result: Any = None
    """Documented in ``docs/cli.md``, one object a method."""
    error: str | None = None
