"""What a person asks for who starts a rollout."""

from typing import Annotated

from msgspec import Meta, Struct

from agent.protocol.ids import Name, Version
from agent.protocol.state import ShadowPolicy, VariantPolicy


class StageWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage: exactly one of the two."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """This many further devices."""
    percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Until this share of the fleet has it, in all."""


class RolloutWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/rollouts``."""

    model: Name
    release: Version
    stages: Annotated[tuple[StageWish, ...], Meta(min_length=1, max_length=32)] = (StageWish(percent=100),)
    devices: tuple[Name, ...] | None = None
    """Only these, in this order; None: every enrolled device, by name."""
    allowed_failures: Annotated[int, Meta(ge=0)] = 0
    """Devices that may refuse or roll back before the rollout pauses by itself."""
    stage_timeout_seconds: Annotated[float, Meta(gt=0)] | None = None
    """None: as configured."""
    variant_policy: VariantPolicy = VariantPolicy.MOST_ACCURATE
    shadow: ShadowPolicy | None = None
    """How each device compares the release with the one it serves, on live requests, before it may serve; None: not."""
