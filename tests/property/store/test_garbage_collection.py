"""Garbage collection takes what nobody needs, and never what a slot, a reservation or a fetch needs."""

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core import slots as moves
from agent.core.slots import InstalledRelease, Slots
from agent.protocol.state import VariantPolicy
from agent.store.artifacts import ArtifactStore
from agent.store.errors import QuotaExceededError
from agent.store.partial import PartialArtifact

MODELS = ("digits", "faces")
RELEASES = st.integers(1, 6)
QUOTA = 60


def content(name: str) -> bytes:
    return name.encode().ljust(10, b".")


class Collecting(RuleBasedStateMachine):
    """Two models' slots, moved as the update machine moves them, over one real store that is reopened now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._slots = {model: Slots() for model in MODELS}
        self._open()

    def _open(self) -> None:
        self.store = ArtifactStore(self._folder, quota_bytes=QUOTA)
        self._partial: PartialArtifact | None = None
        self._reserved: list[tuple[ExitStack, frozenset[str]]] = []

    def teardown(self) -> None:
        self.crash()
        self._stack.close()

    @rule(model=st.sampled_from(MODELS), release=RELEASES)
    def fetch(self, model: str, release: int) -> None:
        """Into the candidate's slot: a file of its own, and one that releases of both models share."""
        files = []
        for name in (f"{model}/{release}", f"shared/{release % 2}"):
            try:
                files.append(self.store.add(content(name)))
            except QuotaExceededError:
                return
        candidate = InstalledRelease(
            deployment=f"d-{release}",
            model=model,
            release=release,
            variant="onnx-fp32",
            artifact=files[0],
            manifest=files[0],
            variant_policy=VariantPolicy.SMALLEST,
            files=tuple(files),
        )
        current = self._slots[model]
        self._slots[model] = Slots(
            active=current.active,
            candidate=candidate,
            previous=current.previous,
            floor=current.floor,
            committed=current.committed,
        )

    @rule(model=st.sampled_from(MODELS))
    def commit(self, model: str) -> None:
        if self._slots[model].candidate is not None:
            self._slots[model] = moves.commit(self._slots[model])

    @rule(model=st.sampled_from(MODELS))
    def refuse(self, model: str) -> None:
        self._slots[model] = moves.drop_candidate(self._slots[model])

    @rule(model=st.sampled_from(MODELS))
    def go_back(self, model: str) -> None:
        if self._slots[model].previous is not None:
            self._slots[model] = moves.drop_candidate(moves.swap_back(self._slots[model]))

    @precondition(lambda self: self._partial is None)
    @rule(name=st.sampled_from(["patch/1", "patch/2"]))
    def begin_a_transfer(self, name: str) -> None:
        data = content(name)
        try:
            self._partial = self.store.partial(_digest(data), len(data))
        except QuotaExceededError:
            return
        self._partial.append(data[self._partial.offset :][:3])

    @precondition(lambda self: self._partial is not None)
    @rule()
    def cut_the_transfer(self) -> None:
        assert self._partial is not None
        self._partial.close()
        self._partial = None

    @rule(names=st.sets(st.sampled_from(["digits/1", "faces/2", "shared/0", "patch/1"]), min_size=1))
    def reserve(self, names: set[str]) -> None:
        sizes = {_digest(content(name)): 10 for name in names}
        stack = ExitStack()
        try:
            stack.enter_context(self.store.reserve(sizes))
        except QuotaExceededError:
            return
        self._reserved.append((stack, frozenset(sizes)))

    @precondition(lambda self: self._reserved)
    @rule()
    def let_go(self) -> None:
        self._reserved.pop()[0].close()

    @rule()
    def collect(self) -> None:
        before = self._present()
        keep = frozenset[str]().union(*(slots.referenced() for slots in self._slots.values()))
        removed = set(self.store.remove_unreferenced(keep))
        held = frozenset[str]().union(*(digests for _, digests in self._reserved))
        if self._partial is not None:
            held |= {self._partial.digest}
        assert removed == before - keep - held

    @rule()
    def crash(self) -> None:
        for stack, _ in self._reserved:
            stack.close()
        if self._partial is not None:
            self._partial.close()
        self._open()

    @invariant()
    def active_and_previous_are_complete(self) -> None:
        for slots in self._slots.values():
            for release in (slots.active, slots.previous, slots.candidate):
                assert release is None or all(self.store.verify(digest) for digest in release.files)

    @invariant()
    def the_quota_holds(self) -> None:
        room = self.store.room()
        assert room.used_bytes + room.promised_bytes <= QUOTA

    def _present(self) -> set[str]:
        return {file.name for file in self._folder.glob("sha256/*/*")} | {
            file.name for file in self._folder.glob("partial/*")
        }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


TestCollecting = Collecting.TestCase
TestCollecting.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
