"""What a runner is to be, without the descriptors that only exist once it is started."""

from msgspec import Struct

from agent.protocol.access import Access
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import LabelAccess, SharedMemoryAccess, Start
from agent.protocol.samples import SamplePolicy


class RunnerSpec(Struct, frozen=True, kw_only=True):
    """The fields of :class:`agent.protocol.runner.Start` that outlive one process, and its memory limit."""

    model: str
    release: int
    deployment: str
    variant: str
    runtime: str
    artifact_path: str
    artifact_sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    reference_path: str | None = None
    threads: int = 1
    default_deadline_ms: float = 1_000.0
    maximum_body_bytes: int = 4 * 1024 * 1024
    queue_depth: int = 128
    shared_memory: SharedMemoryAccess = "off"
    samples: SamplePolicy | None = None
    """Inputs to hand over; None: none."""
    predictions_per_minute: int = 0
    labels_from: LabelAccess = "off"
    nice: int = 0
    """Added to the scheduler's niceness of the process, 0-19."""
    stuck_seconds: float = 30.0
    """A runner that is silent, or an inference that is under way, for longer is ended (``runner-stuck``)."""
    memory_limit_mib: float | None = None
    """PSS at which the process is killed (``memory-over-budget``); None: no limit."""

    def start(
        self,
        *,
        private_fd: int,
        shared_fds: tuple[int, ...],
        access: Access,
        drift_states: dict[str, bytes],
    ) -> Start:
        """The first frame of a process with these descriptors, which goes on from these states."""
        return Start(
            model=self.model,
            release=self.release,
            deployment=self.deployment,
            variant=self.variant,
            runtime=self.runtime,
            artifact_path=self.artifact_path,
            artifact_sha256=self.artifact_sha256,
            inputs=self.inputs,
            outputs=self.outputs,
            labels=self.labels,
            reference_path=self.reference_path,
            private_fd=private_fd,
            shared_fds=shared_fds,
            threads=self.threads,
            default_deadline_ms=self.default_deadline_ms,
            maximum_body_bytes=self.maximum_body_bytes,
            queue_depth=self.queue_depth,
            shared_memory=self.shared_memory,
            access=access,
            drift_states=drift_states,
            samples=self.samples,
            predictions_per_minute=self.predictions_per_minute,
            labels_from=self.labels_from,
        )
