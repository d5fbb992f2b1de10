"""Where an artifact's bytes may come from: one interface, so that a transfer can go on with another source in mid-file."""

from typing import Protocol

from agent.protocol.ids import Digest
from agent.protocol.state import Way


class ByteWriter(Protocol):
    """Where bytes go, in order. It keeps what it was given, whatever happens to the source afterwards."""

    @property
    def offset(self) -> int:
        """Bytes that are here: the next one to ask for."""
        ...

    async def append(self, data: bytes) -> None:
        """Take the next bytes; returns when they are written and when more may come (a slow disk, the rate limit).

        A source asks for nothing new before it returns, so what a source has in flight bounds what is in memory.
        """
        ...


class ByteSource(Protocol):
    """One way to an artifact's bytes: MQTT blocks, HTTP ranges, an opened bundle."""

    way: Way

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        """Append the artifact's bytes to ``writer`` from its offset on, until it has ``size``.

        What was written stays written whatever happens, so calling again, or another source, resumes. The caller checks
        the hash. May be cancelled at any await.

        Raises:
            NoAnswerError: it can't be reached, or the connection was lost: no fault of what is there.
            NotFoundError: it does not have the artifact.
            NoLocationError: it offers this artifact to nobody; ask another source.
            BusyError: it asks to come again later.
            TransferError: it answered, and wrongly.
        """
        ...
