"""A receipt (``<device>-<date>.receipt``): what became of a bundle on one device, signed with that device's identity key.

An envelope of :data:`agent.protocol.envelope.RECEIPT_TYPE`; the signature is ECDSA P-256 over SHA-256, as X.509 has it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Name, Sha256, UnixTime
from agent.protocol.state import DeploymentReport, Reason

MAX_RECEIPT_BYTES = 256 * 1024
"""The payload."""
MAX_RECEIPT_DEPLOYMENTS = 128
MAX_RECEIPT_ENVELOPE_BYTES = 384 * 1024
RECEIPT_SUFFIX = ".receipt"


class Receipt(Struct, frozen=True, kw_only=True):
    """The newest bundle that the device was offered, and what it has done about it so far."""

    v: Literal[1] = 1
    device: Name
    hardware_class: Name
    agent_version: str
    time: UnixTime
    bundle: Sha256
    """Of the bundle's signed index, which names every other byte of it by its hash."""
    certificate: Annotated[str, Meta(max_length=8192)]
    """The device's, PEM: by it the hub knows the key that has signed."""
    deployments: Annotated[tuple[DeploymentReport, ...], Meta(max_length=MAX_RECEIPT_DEPLOYMENTS)]
    """Each deployment that the bundle orders, as the device has seen it; none where it was refused."""
    refusal: Reason | None = None
    """Why the bundle as a whole was not taken, if it was not."""
