"""One loaded model: infers, keeps deadlines, counts, and feeds the bookkeeping."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from agent.runner.backends import Array, Backend, InferenceError, InvalidInputError
from agent.runner.bookkeeping import Bookkeeping
from agent.runner.errors import NotFiniteError, QueueFullError, RequestError, ServingError
from agent.runner.inference_queue import InferenceQueue, Run
from agent.runner.openinference import Contract, Decoder, InferRequest
from agent.runner.output_policy import OutputPolicy
from agent.runner.query_budget import QueryLedger
from agent.runner.responses import Body, Encoder
from agent.runner.shadow import ShadowFeed
from agent.runner.shared_memory import Regions
from agent.runner.statistics import ServingStatistics


class Call(NamedTuple):
    """One checked request, before and after its run."""

    request: InferRequest
    run: Run
    taken: float
    """``time.perf_counter()`` when it was looked at; :attr:`decoded` when it had been checked."""
    decoded: float


class ModelService:
    """Answers inference requests: at once where the model is quick, else when its turn has come.

    A request is taken by :meth:`begin`. If it is :meth:`quick`, :meth:`answer` gives its answer; else :meth:`queue` it, and
    ask :meth:`outcome` when told. Each request is counted once, whatever becomes of it.
    """

    def __init__(
        self,
        *,
        model: str,
        release: int,
        backend: Backend,
        contract: Contract,
        regions: Regions,
        default_deadline_s: float,
        statistics: ServingStatistics,
        books: Bookkeeping | None,
        queue: InferenceQueue,
        ledger: QueryLedger | None = None,
        policy: OutputPolicy | None = None,
    ) -> None:
        """``ledger``: of the query budget, None without one; ``policy``: what is told of outputs, None: everything.

        Until :meth:`open` nobody but the agent asks, so neither counts, nor do ``books``.
        """
        self.model = model
        self.version = str(release)
        self.contract = contract
        self.backend = backend
        self.statistics = statistics
        self._decode = Decoder(contract, regions).decode
        self._encode = Encoder(model, self.version, contract, regions).encode
        self._default_deadline_s = default_deadline_s
        self._queue = queue
        self._books: Bookkeeping | None = None
        self._ledger: QueryLedger | None = None
        self._policy: OutputPolicy | None = None
        self._for_clients = (books, ledger, policy)
        self.shadow: ShadowFeed | None = None
        """Is offered every request that was answered well."""

    def open(self) -> None:
        """Clients ask from now on: the books, the query budget and the counts begin."""
        self._books, self._ledger, self._policy = self._for_clients
        self.statistics = ServingStatistics()

    def refused(self) -> None:
        """Count a request that was refused before it could be looked at."""
        self.statistics.refused()

    def begin(
        self, body: bytes, header_length: int | None, arrived: float, *, peer: int | None = None
    ) -> Call:
        """Check a request.

        Args:
            body: the request's body.
            header_length: length of its JSON part, None where it is JSON alone, 0 where it is one tensor alone.
            arrived: ``time.perf_counter()`` when its last byte was read.
            peer: uid of who asks; None over TCP.

        Raises:
            RequestError: by the client's fault.
            QueueFullError: too many are waiting.
        """
        taken = time.perf_counter()
        try:
            arrived = self._queue.turn_began(arrived)
            request = self._decode(body, header_length, peer)
            rows = self.contract.rows(request.inputs)
            if self._ledger is not None:
                self._ledger.charge(peer, rows, time.monotonic())
        except RequestError:
            self.statistics.refused()
            raise
        except QueueFullError:
            self.statistics.turned_away()
            raise
        deadline = request.deadline_s or self._default_deadline_s
        run = Run(request.inputs, rows=rows, arrived=arrived, deadline_s=deadline)
        return Call(request, run, taken, time.perf_counter())

    def quick(self, call: Call) -> bool:
        """Whether it may be answered inline."""
        return self._queue.quick(call.run.rows)

    def answer(self, call: Call) -> Body:
        """Run and answer it, inline.

        Raises:
            RequestError: by the client's fault.
            ServingError: by the model's.
        """
        return self._counted(call, self._queue.run_now)

    def queue(self, call: Call, tell: Callable[[], None], abandoned: Callable[[], bool]) -> None:
        """Have it run when its turn comes; ``tell`` is called when :meth:`outcome` may be asked.

        Raises:
            QueueFullError: too many are waiting.
        """
        call.run.abandoned = abandoned
        try:
            self._queue.run_later(call.run, tell)
        except QueueFullError:
            self.statistics.turned_away()
            raise

    def outcome(self, call: Call) -> Body:
        """The answer to a queued request; raises like :meth:`answer`."""
        return self._counted(call, Run.result)

    def _counted(self, call: Call, outputs: Callable[[Run], dict[str, Array]]) -> Body:
        run = call.run
        try:
            body = self._encoded(call, outputs)
        except RequestError:
            self.statistics.refused()
            raise
        except Exception as error:
            self.statistics.answered(
                time.perf_counter() - run.arrived,
                failed=True,
                not_finite=isinstance(error, NotFiniteError),
            )
            raise
        self.statistics.answered(
            time.perf_counter() - run.arrived,
            failed=False,
            queued=call.taken - run.arrived + run.begun - call.decoded,
            decoding=call.decoded - call.taken,
            inferring=run.ended - run.begun,
            rows=run.rows,
        )
        return body

    def _encoded(self, call: Call, run: Callable[[Run], dict[str, Array]]) -> Body:
        request = call.request
        try:
            outputs = run(call.run)
        except InvalidInputError as error:
            raise RequestError(str(error)) from error
        except (InferenceError, MemoryError) as error:
            raise ServingError(
                f"model {self.model} {self.version}: {str(error) or 'out of memory'}"
            ) from error
        if self._books is not None:
            self._books.add(request.inputs, outputs, request.facts)
        _refuse_non_finite(request.inputs, outputs)
        if self.shadow is not None:
            self.shadow.offer(request.inputs, outputs)
        if self._policy is not None:
            outputs = self._policy.apply(outputs)
        answer = self._encode(request, outputs)
        call.run.check_deadline("was answered too late")
        return answer


def _refuse_non_finite(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    bad = _non_finite(outputs)
    if bad is None:
        return
    # NaN in, NaN out is the sender's doing: it must not count against the release.
    given = _non_finite(inputs)
    if given is not None:
        raise RequestError(f"input {given!r} holds NaN or infinite values, and so would output {bad!r}")
    raise NotFiniteError(f"output {bad!r} holds NaN or infinite values for finite inputs")


def _non_finite(tensors: Mapping[str, Array]) -> str | None:
    for name, array in tensors.items():
        # The sum of squares is quicker, and finite only where every value is; it may also overflow.
        if (
            array.dtype.kind == "f"
            and not math.isfinite(np.vdot(array, array))
            and not np.isfinite(array).all()
        ):
            return name
    return None
