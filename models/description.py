"""``recipe.json``: what a recipe knows about the files it made, before anybody has decided to release them."""

import hashlib
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.protocol.codec import decode_json
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import Name, Sha256
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import (
    Filename,
    Fraction,
    Parent,
    Positive,
    PositiveInt,
    Precision,
    Runtime,
    TensorSpec,
)
from models.errors import ReleaseFolderError

DESCRIPTION_FILENAME = "recipe.json"
GOLDEN_FILENAME = "golden.msgpack"
REFERENCE_FILENAME = "reference.json"
EVALUATION_FILENAME = "evaluation.json"
CARD_FILENAME = "card.md"


class VariantFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file in the folder."""

    name: Name
    runtime: Runtime
    precision: Precision
    filename: Filename
    opset: PositiveInt
    minimum_runtime: str


class Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a manifest that the recipe decides."""

    schema: Annotated[int, Meta(ge=1, le=1)] = 1
    model: Name
    summary: str
    labels: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: str
    variants: Annotated[tuple[VariantFile, ...], Meta(min_length=1)]
    golden_tolerance: Positive
    """Largest allowed |difference| of any golden output element."""
    golden_class_agreement: Fraction
    teacher_sha256: Sha256 | None = None
    """Digest of the teacher's model file, where this one was distilled from it."""
    distilled_from: Parent | None = None
    """The teacher's release, where its folder was packaged already."""
    quantized_from: Sha256 | None = None
    """Digest of the float model file."""
    datasets: dict[str, Sha256]
    recipe: str
    """Command that makes the folder."""
    code_version: str
    packages: dict[str, str]


def read_description(folder: Path) -> Description:
    """Read ``recipe.json``.

    Raises:
        ReleaseFolderError: the folder has none, or it can't be read; the text says why.
    """
    path = folder / DESCRIPTION_FILENAME
    try:
        return decode_json(path.read_bytes(), Description, limit=MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise ReleaseFolderError(
            f"{folder} is not a release folder: it has no {DESCRIPTION_FILENAME}; a recipe writes it, "
            f"for instance: python -m models digits teacher --out {folder}"
        ) from None
    except ProtocolError as error:
        raise ReleaseFolderError(f"{path}: {error}") from error


def write_json(path: Path, value: Struct) -> None:
    """Write a struct as indented JSON, for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Distribution → installed version."""
    return {name: version(name) for name in names}


def code_version() -> str:
    """Version of this package, with the commit where it runs from a git checkout."""
    base = version("edgeward")
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
        )
    except OSError:
        return base
    commit = answer.stdout.strip()
    return f"{base}+{commit}" if answer.returncode == 0 and commit else base
