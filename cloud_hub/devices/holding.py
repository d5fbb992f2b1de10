"""Hold a device from the hub: it keeps what it runs until it is resumed, whatever rollouts assign meanwhile.

In the caller's transaction. A hold is a word in the signed document, so each change signs a new version, which is to
be published after the commit.
"""

from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy.orm import Session

from cloud_hub.audit.service import record
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import DeviceView, get_device, hold_of, view
from cloud_hub.errors import ConflictError
from cloud_hub.rollouts.documents import Signing, sign_document
from cloud_hub.rollouts.models import DesiredDocument


class HoldWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/devices/{device}/hold``."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    """Why, in words; stands in the audit log and wherever the hold is shown."""


class HoldAnswer(Struct, frozen=True, kw_only=True):
    """What came of ``hold`` and ``resume``."""

    device: DeviceView
    changed: bool
    """False: it was so already."""
    text: str
    """In words."""


def hold(session: Session, name: str, wish: HoldWish, *, signing: Signing, by: str, now: float) -> HoldAnswer:
    """Ask a device to keep what it runs. A hold that is there already stays as it is.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: its identity was revoked: it takes no orders.
    """
    device = _orderable(session, name)
    before = hold_of(device)
    if before is not None:
        return _answer(device, f"{name} is {before.text} already; nothing was changed", changed=False)
    device.held_since, device.held_by, device.held_reason = now, by, wish.reason
    _order_anew(session, name, signing, now)
    reason = {} if wish.reason is None else {"reason": wish.reason}
    record(session, now=now, actor=by, action="hold-device", subject=name, **reason)
    text = f"{name} is held: it begins nothing new, and what it has not begun to prove waits"
    return _answer(device, text, changed=True)


def resume(session: Session, name: str, *, signing: Signing, by: str, now: float) -> HoldAnswer:
    """End the hub's hold of a device; nothing is done where there is none.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: its identity was revoked.
    """
    device = _orderable(session, name)
    before = hold_of(device)
    if before is None:
        return _answer(device, f"{name} is not held by the hub; nothing was changed", changed=False)
    device.held_since = device.held_by = device.held_reason = None
    _order_anew(session, name, signing, now)
    record(session, now=now, actor=by, action="resume-device", subject=name, was=before.text)
    return _answer(device, f"{name} is resumed: it goes on with what is assigned to it", changed=True)


def _orderable(session: Session, name: str) -> Device:
    device = get_device(session, name)
    if device.revoked is not None:
        raise ConflictError(
            f"the identity of device {name} was revoked, so it takes no orders: {device.revoked_reason}"
        )
    return device


def _order_anew(session: Session, name: str, signing: Signing, now: float) -> None:
    """A device without a document gets the hold with its first one."""
    session.flush()
    if session.get(DesiredDocument, name) is not None:
        sign_document(session, name, signing, now)


def _answer(device: Device, text: str, *, changed: bool) -> HoldAnswer:
    return HoldAnswer(device=view(device), changed=changed, text=text)
