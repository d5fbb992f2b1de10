"""Answer block requests: a stretch of a metadata file or of an artifact."""

from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    MetadataSource,
    TransferProblem,
    TransferResponse,
)
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.signing.store import MetadataStore


def answer(request: BlockRequest, metadata: MetadataStore, artifacts: ArtifactStore) -> TransferResponse:
    """The block, or why there is none. An offset at the very end gets an empty block: nothing is missing."""
    data = metadata.get(request.source.name) if isinstance(request.source, MetadataSource) else None
    total = _total(request, data, artifacts)
    if total is None:
        return TransferProblem(id=request.id, code="not-found", text=f"the hub has no {_name(request)}")
    if request.offset > total:
        return TransferProblem(
            id=request.id,
            code="out-of-range",
            text=f"{_name(request)} has {total} bytes, asked was for offset {request.offset}",
        )
    end = min(request.offset + request.length, total)
    if data is not None:
        block = data[request.offset : end]
    elif isinstance(request.source, ArtifactSource) and end > request.offset:
        block = artifacts.read_range(request.source.sha256, request.offset, end - request.offset)
    else:
        block = b""
    return Block(id=request.id, offset=request.offset, total=total, data=block)


def _total(request: BlockRequest, data: bytes | None, artifacts: ArtifactStore) -> int | None:
    if isinstance(request.source, ArtifactSource):
        return artifacts.size(request.source.sha256)
    return None if data is None else len(data)


def _name(request: BlockRequest) -> str:
    source = request.source
    return f"artifact {source.sha256}" if isinstance(source, ArtifactSource) else f"metadata {source.name}"
