"""One loaded model: infers, keeps deadlines, counts, and feeds drift bookkeeping."""

import time
from collections.abc import Mapping

import numpy as np

from agent.runner.backends import Array, Backend, InferenceError
from agent.runner.drift_log import DriftLog
from agent.runner.errors import DeadlineError, RequestError, ServingError
from agent.runner.openinference import Contract, InferRequest, decode_request, encode_response
from agent.runner.statistics import ServingStatistics


class ModelService:
    """Answers inference requests in the caller's thread."""

    def __init__(
        self,
        *,
        model: str,
        release: int,
        backend: Backend,
        contract: Contract,
        default_deadline_s: float,
        statistics: ServingStatistics,
        drift: DriftLog | None,
    ) -> None:
        self.model = model
        self.version = str(release)
        self.contract = contract
        self.backend = backend
        self.statistics = statistics
        self._default_deadline_s = default_deadline_s
        self._drift = drift

    def infer(self, body: bytes, header_length: int | None, arrived: float) -> tuple[list[bytes], int | None]:
        """Answer one request; every call is counted once.

        Args:
            body: the request's body.
            header_length: length of its JSON part, None where it is JSON alone.
            arrived: ``time.perf_counter()`` when its last byte was read.

        Returns:
            the answer's body in parts, and the length of its JSON part (None: JSON alone).

        Raises:
            RequestError: by the client's fault.
            ServingError: by the model's.
        """
        try:
            request = decode_request(body, header_length, self.contract)
            answer = self._answer(request, arrived)
        except RequestError:
            self.statistics.refused()
            raise
        except Exception:
            self.statistics.answered(time.perf_counter() - arrived, failed=True)
            raise
        self.statistics.answered(time.perf_counter() - arrived, failed=False)
        return answer

    def _answer(self, request: InferRequest, arrived: float) -> tuple[list[bytes], int | None]:
        deadline = request.deadline_s or self._default_deadline_s
        _keep(deadline, time.perf_counter() - arrived, "was not begun")
        try:
            outputs = self.backend.infer(request.inputs)
        except (InferenceError, MemoryError) as error:
            raise ServingError(
                f"model {self.model} {self.version}: {str(error) or 'out of memory'}"
            ) from error
        if self._drift is not None:
            self._drift.add(request.inputs, outputs)
        _refuse_non_finite(request.inputs, outputs)
        answer = encode_response(self.model, self.version, request, outputs)
        _keep(deadline, time.perf_counter() - arrived, "was answered too late")
        return answer


def _keep(deadline: float, elapsed: float, what: str) -> None:
    if elapsed > deadline:
        raise DeadlineError(
            f"deadline: the request {what}, after {elapsed * 1e3:.3f} ms; {deadline * 1e3:.3f} ms were allowed"
        )


def _refuse_non_finite(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    bad = _non_finite(outputs)
    if bad is None:
        return
    # NaN in, NaN out is the sender's doing: it must not count against the release.
    given = _non_finite(inputs)
    if given is not None:
        raise RequestError(f"input {given!r} holds NaN or infinite values, and so would output {bad!r}")
    raise ServingError(f"output {bad!r} holds NaN or infinite values for finite inputs")


def _non_finite(tensors: Mapping[str, Array]) -> str | None:
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name
    return None
