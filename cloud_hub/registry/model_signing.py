"""OpenSSF model signatures: did whoever made the model sign these very files? Checked at import, on the hub only.

Devices trust the approvers' TUF signatures and nothing else. This check stands before those: it ties the files of a release
to the signature that its makers gave them where they were trained (https://github.com/ossf/model-signing-spec), and what it
found stays with the release as evidence.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cloud_hub.config import ModelSigningSettings
from cloud_hub.errors import EvidenceError
from cloud_hub.registry.artifacts import StoredArtifact

MAX_SIGNATURE_BYTES = 1024 * 1024
SIGNATURE_FILENAME = "model.sig"

Verify = Callable[[Path, Path], None]
"""Folder of the files, path of the signature; raises whatever the library raises."""


def check_model_signature(
    signature: bytes | None,
    files: Mapping[str, StoredArtifact],
    read: Callable[[str], bytes],
    settings: ModelSigningSettings,
) -> str | None:
    """Who signed exactly these files, in words; None where nobody did and nobody has to.

    Args:
        signature: the bundle as it was uploaded.
        files: file name → what is stored, all files of the release.
        read: digest → bytes; raises EvidenceError where they are gone.
        settings: whose signatures count.

    Raises:
        EvidenceError: one is required and missing, none of the trusted signers made it, or it is over other files.
    """
    if signature is None:
        if settings.required:
            raise EvidenceError(
                "this hub takes releases only with an OpenSSF model signature ([model_signing] required = true);"
                " sign the release folder and submit it with --model-signature"
            )
        return None
    signers = _signers(settings)
    if not signers:
        raise EvidenceError(
            "the release carries an OpenSSF model signature, but this hub trusts no signer: set [model_signing] keys"
            " or authorities in hub.toml, or submit without it"
        )
    with tempfile.TemporaryDirectory(prefix="edgeward-model-signature-") as scratch:
        folder, bundle = Path(scratch) / "release", Path(scratch) / SIGNATURE_FILENAME
        folder.mkdir()
        bundle.write_bytes(signature)
        for name, stored in files.items():
            (folder / name).write_bytes(read(stored.sha256))
        return _first_that_verifies(signers, folder, bundle)


def _first_that_verifies(signers: Mapping[str, Verify], folder: Path, bundle: Path) -> str:
    problems: dict[str, str] = {}
    for name, verify in signers.items():
        try:
            verify(folder, bundle)
        except Exception as error:  # noqa: BLE001 - a hostile bundle may raise anything in the library
            problems[name] = " ".join(str(error).split()) or type(error).__name__
        else:
            return name
    tried = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
    raise EvidenceError(f"the OpenSSF model signature does not hold for the files of this release: {tried}")


def _signers(settings: ModelSigningSettings) -> dict[str, Verify]:
    """Words for a signer → how to verify one."""
    if not settings.keys and not settings.authorities:
        return {}
    try:
        from model_signing import verifying  # noqa: PLC0415 - an extra, and heavy: only where it is used
    except ImportError as error:
        raise EvidenceError(
            f"OpenSSF model signatures can't be checked here ({error}); install edgeward[model-signing] on the hub"
        ) from error

    def by_key(path: Path) -> Verify:
        return lambda folder, bundle: (
            verifying.Config().use_elliptic_key_verifier(public_key=path).verify(folder, bundle)
        )

    def by_authority(path: Path) -> Verify:
        return lambda folder, bundle: (
            verifying.Config().use_certificate_verifier(certificate_chain=[path]).verify(folder, bundle)
        )

    keys = {f"key {_fingerprint(Path(path))}": by_key(Path(path)) for path in settings.keys}
    authorities = {
        f"a certificate under authority {_fingerprint(Path(path))}": by_authority(Path(path))
        for path in settings.authorities
    }
    return {**keys, **authorities}


def _fingerprint(path: Path) -> str:
    """File name and the start of its SHA-256, so that an auditor can tell which file was meant."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EvidenceError(f"[model_signing] {path}: {error.strerror}") from error
    return f"{path.name} (SHA-256 {digest[:16]}…)"
