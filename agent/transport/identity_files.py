"""Where a device's identity is kept. Apart from what makes one, which the service never loads (8 MiB of PSS)."""

from pathlib import Path
from typing import Self

from msgspec import Struct

from agent.transport.errors import IdentityMissingError
from agent.transport.settings import TlsFiles


class IdentityFiles(Struct, frozen=True, kw_only=True):
    """Where an identity is kept (PEM)."""

    key: Path
    certificate: Path
    authority: Path

    @classmethod
    def within(cls, folder: Path) -> Self:
        return cls(
            key=folder / "device.key", certificate=folder / "device.crt", authority=folder / "authority.crt"
        )

    @property
    def complete(self) -> bool:
        """Whether the device has been enrolled."""
        return self.key.exists() and self.certificate.exists() and self.authority.exists()

    def tls(self) -> TlsFiles:
        """For the link.

        Raises:
            IdentityMissingError: the device has not been enrolled.
        """
        if not self.complete:
            raise IdentityMissingError(f"{self.certificate}: this device has no identity yet; enrol it")
        return TlsFiles(certificate=self.certificate, key=self.key, authority=self.authority)
