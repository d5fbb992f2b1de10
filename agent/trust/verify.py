"""One check from beginning to end: a request and a way to fetch in, a result out."""

import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.protocol.ids import MANIFEST_FILENAME, release_path
from agent.protocol.samples import VerifiedSampleRequest
from agent.protocol.state import ModelRelease, Reason, RoleExpiry
from agent.protocol.verification import (
    UNKNOWN_MODEL,
    RefusedAssignment,
    VerifiedAssignment,
    VerifyRequest,
    VerifyResult,
)
from agent.trust.bundle import check_bundle
from agent.trust.director import FILE as DIRECTOR_FILE
from agent.trust.director import ROLE as DIRECTOR_ROLE
from agent.trust.director import DirectorDocument, Order, check_director, mark_role
from agent.trust.errors import BAD_SIGNATURE, NOT_APPROVED, WITHDRAWN, RefusedError, TrustError
from agent.trust.fetcher import Fetch
from agent.trust.marks import MarkBook
from agent.trust.releases import check_order, delegation, lists
from agent.trust.repository import TrustedRepository
from agent.trust.samples import check_sample_request

_MEMORY = "/dev/shm"  # noqa: S108 - mkdtemp's own name and mode 0700 below it


@dataclass
class _Findings:
    """What one check has established so far."""

    assignments: list[VerifiedAssignment] = field(default_factory=list)
    refused: list[RefusedAssignment] = field(default_factory=list)
    refusal: Reason | None = None
    director: bytes | None = None
    director_time: float | None = None
    director_expires: float | None = None
    withdrawn: tuple[ModelRelease, ...] = ()
    samples: VerifiedSampleRequest | None = None
    samples_refusal: Reason | None = None
    time_replaced: bool = False


def verify(request: VerifyRequest, fetch: Fetch) -> VerifyResult:
    """Refresh the repository, then check the director's document and each release that it orders.

    Nothing that a hub can send makes this raise: what is wrong comes back as a reason.
    """
    marks = MarkBook(request.marks)
    with tempfile.TemporaryDirectory(prefix="edgeward-verifier-", dir=_memory_folder()) as folder:
        try:
            repository = TrustedRepository(
                folder=Path(folder),
                root=request.root,
                stored=request.metadata,
                fetch=fetch,
                now=datetime.fromtimestamp(request.now, UTC),
                system=None if request.system is None else datetime.fromtimestamp(request.system, UTC),
                marks=marks,
            )
        except TrustError as error:
            return VerifyResult(refusal=error.reason, marks=request.marks)
        return _check(request, repository, marks)


def _memory_folder() -> str | None:
    """Files that live as long as one check belong into memory: flash wears out, and an hourly check would write it."""
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None


def _check(request: VerifyRequest, repository: TrustedRepository, marks: MarkBook) -> VerifyResult:
    found = _Findings()
    try:
        repository.refresh()
        found.time_replaced = repository.settle(DIRECTOR_ROLE)
        if request.bundle is not None:
            check_bundle(
                request.bundle, targets=repository.targets, device=request.device, now=repository.now
            )
        if request.sample_request is not None:
            _check_samples(request, request.sample_request, repository, found)
        if request.director is not None:
            _follow(request, request.director, repository, marks, found)
        found.withdrawn = tuple(each for each in request.installed if _is_withdrawn(each, repository))
    except TrustError as error:
        # Without the repository (or with half of it) nothing is taken; what was verified is still worth keeping.
        found.refusal = error.reason
        found.assignments.clear()
        found.refused.clear()
    metadata = repository.changed_files()
    if found.director is not None and request.metadata.get(DIRECTOR_FILE) != found.director:
        metadata[DIRECTOR_FILE] = found.director
    times = [time for time in (repository.hub_time(), found.director_time) if time is not None]
    if found.time_replaced:
        times.append(float(repository.signed_time(DIRECTOR_ROLE)))
    return VerifyResult(
        assignments=tuple(found.assignments),
        refused=tuple(found.refused),
        refusal=found.refusal,
        metadata=metadata,
        marks=marks.marks(),
        hub_time=max(times, default=None),
        hub_time_replaced=found.time_replaced and request.system is not None,
        expiry=_expiry(repository, found),
        sample_request=found.samples,
        sample_refusal=found.samples_refusal,
        withdrawn=found.withdrawn,
    )


def _check_samples(
    request: VerifyRequest, envelope: bytes, repository: TrustedRepository, found: _Findings
) -> None:
    """A bad request says nothing about the repository, so it is no reason to refuse that."""
    try:
        found.samples = check_sample_request(
            envelope, targets=repository.targets, device=request.device, now=repository.now
        )
    except RefusedError as error:
        found.samples_refusal = error.reason


def _expiry(repository: TrustedRepository, found: _Findings) -> tuple[RoleExpiry, ...]:
    roles = repository.expiry()
    if found.director_expires is None:
        return roles
    return (*roles, RoleExpiry(role=DIRECTOR_ROLE, expires=found.director_expires))


def _is_withdrawn(installed: ModelRelease, repository: TrustedRepository) -> bool:
    """A role that can't be had says nothing; a model that the offline holders have removed takes its releases with it."""
    path = release_path(installed.model, installed.release, MANIFEST_FILENAME)
    try:
        role = repository.model_role(installed.model, path)
    except TrustError as error:
        return error.reason.code == UNKNOWN_MODEL
    return not lists(role, installed.model, installed.release)


def _follow(
    request: VerifyRequest, director: bytes, repository: TrustedRepository, marks: MarkBook, found: _Findings
) -> None:
    document = check_director(
        director,
        targets=repository.targets,
        device=request.device,
        now=repository.now,
        marks=marks,
        previous=request.metadata.get(DIRECTOR_FILE),
    )
    _accept(document, director, request.device, repository, marks, found)
    for order in document.orders:
        try:
            found.assignments.append(_check_order(order, repository))
        except RefusedError as error:
            found.refused.append(
                RefusedAssignment(
                    model=order.model,
                    release=order.release,
                    deployment=order.assignment.deployment,
                    reason=_reason(order, error, request, repository),
                )
            )


def _accept(
    document: DirectorDocument,
    data: bytes,
    device: str,
    repository: TrustedRepository,
    marks: MarkBook,
    found: _Findings,
) -> None:
    marks.record(mark_role(device), document.keys, document.version)
    found.director = data
    found.director_expires = document.expires
    if document.issued is not None:
        found.director_time = repository.capped(document.issued)
        repository.record_time(document.keys, document.issued)


def _check_order(order: Order, repository: TrustedRepository) -> VerifiedAssignment:
    role = repository.model_role(order.model, order.path)
    return check_order(order, role, delegation(repository.targets, order.model))


def _reason(
    order: Order, error: RefusedError, request: VerifyRequest, repository: TrustedRepository
) -> Reason:
    """A model's role without enough approvers' signatures is what "not approved" means; what is here was approved once."""
    ordered = ModelRelease(model=order.model, release=order.release)
    if (
        error.reason.code == NOT_APPROVED
        and ordered in request.installed
        and _is_withdrawn(ordered, repository)
    ):
        text = f"{order.model} release {order.release} was withdrawn by its approvers"
        return Reason(code=WITHDRAWN, text=text)
    if error.reason.code != BAD_SIGNATURE:
        return error.reason
    return Reason(
        code=NOT_APPROVED,
        text=f"{order.model} release {order.release}: not signed by enough approvers ({error.reason.text})",
    )
