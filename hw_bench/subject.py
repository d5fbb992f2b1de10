"""What is measured: the variants and golden inputs of a folder, packaged (manifest) or not yet (recipe)."""

from pathlib import Path

from msgspec import Struct

from agent.protocol.errors import ProtocolError
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import TensorSpec, decode_manifest
from hw_bench.errors import SubjectError
from models.description import DESCRIPTION_FILENAME, GOLDEN_FILENAME, read_description
from models.errors import RecipeError


class SubjectVariant(Struct, frozen=True, kw_only=True):
    """One model file."""

    name: str
    runtime: str
    path: str


class Subject(Struct, frozen=True, kw_only=True):
    """Everything a bench needs to know about a release folder."""

    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: str
    """Path of the golden vectors, whose inputs are the samples."""
    variants: tuple[SubjectVariant, ...]


def read_subject(folder: Path) -> Subject:
    """Read a release folder; its recipe comes first, since a bench comes before the manifest.

    Raises:
        SubjectError: it has neither ``recipe.json`` nor ``manifest.json``, one can't be read, or a file is missing.
    """
    try:
        if (folder / DESCRIPTION_FILENAME).exists() or not (folder / MANIFEST_FILENAME).exists():
            subject = _of_recipe(folder)
        else:
            subject = _of_manifest(folder)
    except (RecipeError, ProtocolError) as error:
        raise SubjectError(str(error)) from error
    for path in (subject.golden, *(variant.path for variant in subject.variants)):
        if not Path(path).is_file():
            raise SubjectError(f"{path} does not exist; run the recipe again")
    return subject


def _of_recipe(folder: Path) -> Subject:
    description = read_description(folder)
    return Subject(
        model=description.model,
        inputs=description.inputs,
        outputs=description.outputs,
        golden=str(folder / GOLDEN_FILENAME),
        variants=tuple(
            SubjectVariant(name=entry.name, runtime=entry.runtime, path=str(folder / entry.filename))
            for entry in description.variants
        ),
    )


def _of_manifest(folder: Path) -> Subject:
    manifest = decode_manifest((folder / MANIFEST_FILENAME).read_bytes())
    return Subject(
        model=manifest.model,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        golden=str(folder / manifest.golden.artifact.filename),
        variants=tuple(
            SubjectVariant(name=entry.name, runtime=entry.runtime, path=str(folder / entry.artifact.filename))
            for entry in manifest.variants
        ),
    )
