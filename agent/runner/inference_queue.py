"""Where a model runs: inline in the event loop where it is quick, else in one thread behind a bounded queue.

Handing a run to a thread and back costs 50-70 µs, ten times what a tiny model takes, so a quick run is not worth it; a
slow one would keep every other client waiting, deadlines and health included, so it is. Which it is, is estimated from
the runs so far. A model never runs twice at the same time: while the thread is busy, everything waits its turn.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from agent.runner.backends import Array
from agent.runner.errors import DeadlineError, QueueFullError

INLINE_SECONDS = 0.001
"""A run that is expected to take longer goes to the thread, which then makes it a few percent slower at most."""

_SMOOTHING = 0.25
"""Weight of the newest in the estimate."""

Tensors = Mapping[str, Array]
Infer = Callable[[Tensors], dict[str, Array]]


class Run:
    """One inference on its way."""

    __slots__ = ("abandoned", "arrived", "begun", "deadline_s", "ended", "error", "inputs", "outputs", "rows")

    def __init__(self, inputs: Tensors, *, rows: int, arrived: float, deadline_s: float) -> None:
        self.inputs = inputs
        self.rows = rows
        self.arrived = arrived
        """``time.perf_counter()`` when its request was there; :attr:`begun` and :attr:`ended` likewise."""
        self.deadline_s = deadline_s
        """Seconds after :attr:`arrived`."""
        self.begun = 0.0
        self.ended = 0.0
        self.outputs: dict[str, Array] | None = None
        self.error: Exception | None = None
        self.abandoned: Callable[[], bool] | None = None
        """Whether its client has gone; a run that nobody waits for is not begun."""

    def result(self) -> dict[str, Array]:
        """The outputs; raises what the run ended with instead."""
        if self.error is not None:
            raise self.error
        assert self.outputs is not None, "asked before it has ended"  # noqa: S101 - the queue keeps it
        return self.outputs

    def check_deadline(self, what: str) -> None:
        """Raise ``DeadlineError`` where it has passed; ``what`` is told, for instance "was not begun"."""
        elapsed = time.perf_counter() - self.arrived
        if elapsed > self.deadline_s:
            raise self.too_late(what, elapsed)

    def too_late(self, what: str, elapsed: float) -> DeadlineError:
        return DeadlineError(
            f"deadline: the request {what}, after {elapsed * 1e3:.3f} ms; "
            f"{self.deadline_s * 1e3:.3f} ms were allowed"
        )


class _Waiting:
    """A run and who is told of its end; settled once, by its result or by its deadline."""

    __slots__ = ("run", "settled", "tell", "timer")

    def __init__(self, run: Run, tell: Callable[[], None]) -> None:
        self.run = run
        self.tell = tell
        self.settled = False
        self.timer: asyncio.TimerHandle | None = None

    def settle(self) -> None:
        self.settled = True
        if self.timer is not None:
            self.timer.cancel()
        self.tell()


class InferenceQueue:
    """Every method is called on the event loop; only ``infer`` is called in the thread."""

    def __init__(
        self, infer: Infer, *, depth: int, row_seconds: float, cancel: Callable[[], None] = lambda: None
    ) -> None:
        """``infer`` runs the model; ``cancel`` asks a run under way to end.

        ``depth``: runs that may wait; ``row_seconds``: what one row takes, measured while warming up.
        """
        self._infer = infer
        self._cancel = cancel
        self._depth = depth
        self._row_seconds = row_seconds
        self._last_seen = row_seconds
        self._waiting: deque[_Waiting] = deque()
        self._running: _Waiting | None = None
        self._since = 0.0
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turn = 0
        self._turn_began = 0.0

    @property
    def running_seconds(self) -> float:
        """How long the run that is under way has been so; 0 where none is."""
        return 0.0 if self._running is None else time.perf_counter() - self._since

    def turn_began(self, arrived: float) -> float:
        """When this turn of the event loop began to read requests: what it reads later was already waiting then.

        Raises:
            QueueFullError: more requests were waiting than may.
        """
        if self._turn == 0:
            self._turn_began = arrived
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._turn += 1
        if self._turn > self._depth:
            raise self._full()
        return self._turn_began

    def _next_turn(self) -> None:
        self._turn = 0

    def quick(self, rows: int) -> bool:
        """Whether a run of so many rows is worth no thread, and nothing is before it."""
        return self._running is None and rows * self._row_seconds <= INLINE_SECONDS

    def run_now(self, run: Run) -> dict[str, Array]:
        """Run it inline; raises what the backend raises, or ``DeadlineError`` where it is too late to begin."""
        run.begun = time.perf_counter()
        if run.begun - run.arrived > run.deadline_s:
            raise run.too_late("was not begun", run.begun - run.arrived)
        outputs = self._infer(run.inputs)
        run.ended = time.perf_counter()
        self._learn(run)
        return outputs

    def run_later(self, run: Run, tell: Callable[[], None]) -> None:
        """Queue it; ``tell`` is called when it has ended, at its deadline at the latest.

        Raises:
            QueueFullError: too many wait already.
        """
        if len(self._waiting) >= self._depth:
            raise self._full()
        waiting = _Waiting(run, tell)
        left = run.arrived + run.deadline_s - time.perf_counter()
        waiting.timer = asyncio.get_running_loop().call_later(max(0.0, left), self._late, waiting)
        self._waiting.append(waiting)
        self._begin_next()

    def _full(self) -> QueueFullError:
        ahead = self._depth * self._row_seconds
        return QueueFullError(
            f"queue: {self._depth} requests wait for this model already, which is all that may",
            retry_after=ahead,
        )

    def _begin_next(self) -> None:
        while self._running is None and self._waiting:
            waiting = self._waiting.popleft()
            abandoned = waiting.run.abandoned
            if abandoned is not None and abandoned():
                waiting.settled = True
                if waiting.timer is not None:
                    waiting.timer.cancel()
                continue
            self._running = waiting
            self._since = time.perf_counter()
            self._start_thread()
            self._jobs.put(waiting)

    def _start_thread(self) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            # A daemon: a run that never ends must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, args=(loop,), name="model", daemon=True)
            self._thread.start()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (waiting := self._jobs.get()) is not None:
            begun = time.perf_counter()
            outputs, error = None, None
            try:
                outputs = self._infer(waiting.run.inputs)
            except Exception as failed:  # noqa: BLE001 - told on the loop, by whoever asked
                error = failed
            try:
                loop.call_soon_threadsafe(self._ended, waiting, outputs, error, begun, time.perf_counter())
            except RuntimeError:
                return  # the loop is closed: the process ends

    def _ended(
        self,
        waiting: _Waiting,
        outputs: dict[str, Array] | None,
        error: Exception | None,
        begun: float,
        ended: float,
    ) -> None:
        self._running = None
        run = waiting.run
        run.begun, run.ended = begun, ended
        self._learn(run)
        if not waiting.settled:
            run.outputs, run.error = outputs, error
            waiting.settle()
        self._begin_next()

    def _late(self, waiting: _Waiting) -> None:
        run = waiting.run
        elapsed = time.perf_counter() - run.arrived
        if waiting is self._running:
            run.begun = self._since
            run.error = run.too_late("was given up", elapsed)
            # The thread is free when the runtime has heard of it; until then, others wait.
            self._cancel()
        else:
            run.error = run.too_late("was not begun", elapsed)
            self._waiting.remove(waiting)
        run.ended = time.perf_counter()
        waiting.settle()

    def _learn(self, run: Run) -> None:
        """Of two runs in a row the quicker counts: one that the system held up says nothing about the model."""
        seen = (run.ended - run.begun) / run.rows
        self._row_seconds += _SMOOTHING * (min(seen, self._last_seen) - self._row_seconds)
        self._last_seen = seen

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._jobs.put(None)
