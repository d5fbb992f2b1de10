"""Sign a receipt with the device's key, in a process of its own: what it takes, the service never loads (8 MiB of PSS).

``python -m agent.transport.receipt_signer <identity folder>``: the payload on standard input, the envelope on standard
output; what is wrong goes to standard error, with exit status 1.
"""

import asyncio
import ssl
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from agent.protocol.envelope import RECEIPT_TYPE, pae, seal
from agent.protocol.receipt import MAX_RECEIPT_BYTES, MAX_RECEIPT_ENVELOPE_BYTES
from agent.transport.errors import IdentityError, TransportError
from agent.transport.identity_files import IdentityFiles

SECONDS = 30.0


async def sign_receipt(folder: Path, payload: bytes) -> bytes:
    """The envelope of a receipt, made by a child.

    Raises:
        IdentityError: the key can't be used; the text says why.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.transport.receipt_signer",
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            envelope, problem = await child.communicate(payload)
    except TimeoutError as error:
        child.kill()
        await child.wait()
        raise IdentityError(f"the receipt was not signed within {SECONDS:g} s") from error
    if child.returncode != 0:
        raise IdentityError(f"the receipt can't be signed: {problem.decode(errors='replace').strip()}")
    return envelope


def seal_receipt(files: IdentityFiles, payload: bytes) -> bytes:
    """The envelope: signed with the device's key, named by its certificate.

    Raises:
        IdentityError: the key can't be used.
    """
    # Here, so that the service can import this module for sign_receipt.
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    from agent.transport.identity import load_key  # noqa: PLC0415

    keyid = sha256(ssl.PEM_cert_to_DER_cert(files.certificate.read_text(encoding="ascii"))).hexdigest()
    signature = load_key(files.key).sign(pae(RECEIPT_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    return seal(RECEIPT_TYPE, payload, keyid, signature, limit=MAX_RECEIPT_ENVELOPE_BYTES)


def main(argv: Sequence[str]) -> int:
    """The child."""
    try:
        payload = sys.stdin.buffer.read(MAX_RECEIPT_BYTES + 1)
        sys.stdout.buffer.write(seal_receipt(IdentityFiles.within(Path(argv[0])), payload))
    except (TransportError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
