"""``[notices]`` of hub.toml."""

from typing import Annotated

from msgspec import Meta, Struct

NoticeHours = Annotated[float, Meta(gt=0, le=8760)]


class NoticeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[notices]``: when a device that tells nothing is noticed."""

    silent_hours: NoticeHours = 24.0
    """A device of which no telemetry came for so long has a notice."""
    insufficient_hours: NoticeHours = 72.0
    """So has one whose windows of a model had insufficient data for so long."""
