"""Where open drafts are kept: one file a model."""

from pathlib import Path

from cloud_hub.errors import NotFoundError
from cloud_hub.signing.store import FolderMetadataStore


class DraftStore:
    """``<model>.json`` in one folder: the next version of the model's role with the signatures so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = FolderMetadataStore(folder)

    def get(self, model: str) -> bytes:
        """Raises NotFoundError when no draft is open."""
        data = self._files.get(f"{model}.json")
        if data is None:
            raise NotFoundError(f"model {model}: no draft is open; submit a release first")
        return data

    def put(self, model: str, draft: bytes) -> None:
        self._files.put_all({f"{model}.json": draft})

    def remove(self, model: str) -> None:
        (self._folder / f"{model}.json").unlink(missing_ok=True)
