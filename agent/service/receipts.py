"""Receipts of bundles, put together here and signed by a child that may read the device's key."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.config import DeviceConfig
from agent.protocol.codec import encode_json
from agent.protocol.receipt import MAX_RECEIPT_BYTES, Receipt
from agent.protocol.state import DeploymentReport, Reason

Sign = Callable[[bytes], Awaitable[bytes]]
"""The payload of a receipt → its envelope."""


class ReceiptWriter:
    """Writes what the device says of a bundle."""

    def __init__(
        self, device: DeviceConfig, version: str, certificate: Path, sign: Sign, clock: Callable[[], float]
    ) -> None:
        self._device = device
        self._version = version
        self._certificate = certificate
        self._sign = sign
        self._clock = clock

    async def write(
        self, bundle: str, deployments: tuple[DeploymentReport, ...], refusal: Reason | None
    ) -> str:
        """The signed receipt, as JSON text.

        Raises:
            IdentityError: the device's key can't be used.
            OSError: its certificate can't be read.
        """
        receipt = Receipt(
            device=self._device.id,
            hardware_class=self._device.hardware_class,
            agent_version=self._version,
            time=self._clock(),
            bundle=bundle,
            certificate=self._certificate.read_text(encoding="ascii"),
            deployments=deployments,
            refusal=refusal,
        )
        return (await self._sign(encode_json(receipt, limit=MAX_RECEIPT_BYTES))).decode()
