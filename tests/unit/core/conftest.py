"""Small makers of what decisions are made from."""

import hashlib

import pytest

from agent.core.model_state import DeploymentState, ModelState
from agent.core.slots import InstalledRelease, Slots
from agent.protocol.state import Assignment, Phase, VariantPolicy
from agent.protocol.verification import ReleaseFile, VerifiedAssignment


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Makers:
    """One release has one manifest; every id but the one under test may stay at its default."""

    def installed(
        self, release: int, deployment: str | None = None, *, model: str = "digits"
    ) -> InstalledRelease:
        return InstalledRelease(
            deployment=deployment or f"d{release}",
            model=model,
            release=release,
            variant="onnx-int8",
            artifact=digest(model, release, "artifact"),
            manifest=digest(model, release, "manifest"),
            variant_policy=VariantPolicy.MOST_ACCURATE,
            files=(digest(model, release, "manifest"), digest(model, release, "artifact")),
        )

    def assigned(
        self, release: int, deployment: str | None = None, *, model: str = "digits", hold: bool = False
    ) -> VerifiedAssignment:
        manifest = ReleaseFile(filename="manifest.json", sha256=digest(model, release, "manifest"), size=1)
        return VerifiedAssignment(
            model=model,
            release=release,
            assignment=Assignment(deployment=deployment or f"d{release}", hold=hold),
            manifest=manifest,
            files=(manifest,),
        )

    def at(
        self,
        phase: Phase | None,
        *,
        model: str = "digits",
        deployment: str = "d1",
        release: int = 1,
        slots: Slots | None = None,
        ended: tuple[str, ...] = (),
        report_pending: bool = False,
    ) -> ModelState:
        """A model whose newest deployment stands in ``phase``."""
        run = (
            None
            if phase is None
            else DeploymentState(
                deployment=deployment,
                model=model,
                release=release,
                phase=phase,
                since=1.0,
                assignment=self.assigned(release, deployment, model=model),
                report_pending=report_pending,
            )
        )
        return ModelState(model=model, slots=slots or Slots(), deployment=run, ended=ended)

    def committed(self, release: int, *, model: str = "digits", previous: int | None = None) -> ModelState:
        """A model at rest on ``release``, which deployment ``d<release>`` brought."""
        releases = tuple(each for each in (previous, release) if each is not None)
        slots = Slots(
            active=self.installed(release, model=model),
            previous=None if previous is None else self.installed(previous, model=model),
            floor=max(releases),
            committed=releases,
        )
        return self.at(
            Phase.COMMITTED,
            model=model,
            deployment=f"d{release}",
            release=release,
            slots=slots,
            ended=tuple(f"d{each}" for each in releases),
        )


@pytest.fixture
def make() -> Makers:
    return Makers()
