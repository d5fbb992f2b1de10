"""Predictions and labels: kept, joined, and what they say about a model's accuracy told to whoever should know."""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from agent.config import LabelsConfig
from agent.core.label_figures import Tally, interval, why_contradicted, why_suspicious
from agent.protocol.drift import AccuracyEstimate, CountPrivacy, DriftWindow
from agent.protocol.labels import (
    SETTLED,
    AccuracyFigure,
    Label,
    LabelAnswer,
    LabelCounts,
    LabelDelivery,
    LabelReceipt,
    Prediction,
)
from agent.protocol.runner import LabelsGiven, LabelsJoined, Predicted
from agent.protocol.telemetry import Accuracy, Event
from agent.service.recorder import TelemetryRecorder
from agent.store.errors import StoreClosedError, StoreError
from agent.store.outbox import Outbox
from agent.store.predictions import Figure, FigureKey, PredictionStore, Release
from agent.supervisor.runner_process import RunnerProcess

log = logging.getLogger(__name__)

MOST_WAITING = 8_192
"""Predictions in memory, while the disk refuses; what comes on top is let go and counted."""
FULL = 2_048
"""From so many on they are written at once."""
LONGEST_PAUSE = 1.0
"""Seconds; after a pass nobody's labels are joined for as long as it took."""
MOST_CHANGED = 64
"""Days that are told at once."""
REFUSED_SHOWN = 32

Key = tuple[str, int, str | None]
"""Model, release, slice."""


class _Asked(Struct, kw_only=True, eq=False):
    """A message's labels, and who waits for their answers."""

    model: str
    labels: Sequence[Label]
    answers: asyncio.Future[tuple[LabelAnswer, ...]]


class LabelDesk:
    """Takes what runners said and what others say was right. Everything that waits for one pass over the store shares it."""

    def __init__(
        self,
        config: LabelsConfig,
        store: PredictionStore,
        outbox: Outbox,
        recorder: TelemetryRecorder,
        *,
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self._config = config
        self._store = store
        self._outbox = outbox
        self._recorder = recorder
        self._clock = clock
        self._count = count
        self._waiting: list[tuple[Release, Prediction]] = []
        self._classes: dict[Release, Sequence[str]] = {}
        self._privacy: dict[Release, CountPrivacy] = {}
        self._skipped = 0
        self._asked: list[_Asked] = []
        self._answering: set[asyncio.Future[None]] = set()
        self._wake = asyncio.Event()
        self._ended = False
        self._looked = False
        self._changed = True
        """Whether a day's figures may have to be told."""
        self._figures: dict[FigureKey, Figure] = {}
        self._suspicious: dict[FigureKey, str] = {}
        self._contradicted: dict[Key, str] = {}
        self._estimates: dict[Key, AccuracyEstimate] = {}

    # --- From runners -----------------------------------------------------------------------------------------

    def predicted(self, runner: RunnerProcess, message: Predicted) -> None:
        """Keep what a runner said, soon."""
        release = (runner.spec.model, runner.spec.release)
        self._classes[release] = runner.spec.labels
        if message.privacy is not None:
            self._privacy[release] = message.privacy
        room = max(0, MOST_WAITING - len(self._waiting))
        taken = message.predictions[:room]
        self._waiting += [(release, each) for each in taken]
        self._skipped += message.skipped + len(message.predictions) - len(taken)
        if len(self._waiting) >= FULL:
            self._wake.set()

    def given(self, runner: RunnerProcess, message: LabelsGiven) -> None:
        """Join what a client sent to a runner, and answer by it."""
        joining = asyncio.ensure_future(self._answer(runner, message))
        self._answering.add(joining)  # the loop holds no task that nobody else holds
        joining.add_done_callback(self._answering.discard)

    async def _answer(self, runner: RunnerProcess, message: LabelsGiven) -> None:
        try:
            answers = await self.join(runner.spec.model, message.labels)
        except (StoreError, sqlite3.Error, OSError) as error:
            await runner.say(LabelsJoined(call=message.call, problem=f"labels can't be joined now: {error}"))
        else:
            await runner.say(LabelsJoined(call=message.call, answers=answers))

    def seen(self, window: DriftWindow) -> DriftWindow:
        """The window as it is to be recorded: without an estimate that labels contradict."""
        key = (window.model, window.release, window.slice)
        if window.estimate is not None:
            self._estimates[key] = window.estimate
        against = self._contradicted.get(key)
        if window.estimate is None or against is None:
            return window
        return replace(window, estimate=None, estimate_off=against)

    def remember(self, windows: Iterable[DriftWindow]) -> None:
        """Newest windows from before the start."""
        for window in windows:
            if window.estimate is not None:
                self._estimates[window.model, window.release, window.slice] = window.estimate

    # --- Labels -----------------------------------------------------------------------------------------------

    async def join(self, model: str, labels: Sequence[Label]) -> tuple[LabelAnswer, ...]:
        """Join labels with what is kept; durable when this returns. Answers in the labels' order.

        Raises:
            StoreError, sqlite3.Error, OSError: the database can't be used; nothing was joined, and all may be sent again.
        """
        if self._ended:
            raise StoreClosedError("the agent stops")
        asked = _Asked(model=model, labels=labels, answers=asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._wake.set()
        return await asked.answers

    async def deliver(self, delivery: LabelDelivery) -> LabelReceipt:
        """Join a delivery from the hub, once however often it comes; raises like :meth:`join`."""
        before = await self._store.receipt(delivery.id)
        if before is not None:
            return before
        answers = await self.join(delivery.model, delivery.labels)
        outcomes = Counter(each.outcome for each in answers)
        refused = [each for each in answers if each.outcome not in SETTLED]
        receipt = LabelReceipt(
            id=delivery.id, outcomes=dict(outcomes), refused=tuple(refused[:REFUSED_SHOWN])
        )
        await self._store.keep_receipt(receipt)
        return receipt

    async def report(self, model: str | None) -> tuple[tuple[AccuracyFigure, ...], LabelCounts]:
        """What labels say, of one model or of all, and how much is kept; raises like :meth:`join`."""
        await self._write()
        counts = await self._store.counts()
        figures = [
            self._figure(key, figure)
            for key, figure in sorted(self._figures.items(), key=lambda item: _order(item[0]))
            if model is None or key.model == model
        ]
        return tuple(figures), counts

    # --- The work ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write, join and tell until cancelled."""
        loop = asyncio.get_running_loop()
        written = told = loop.time()
        try:
            await self._try(self._look)
            while True:
                await self._pause()
                now = loop.time()
                if self._asked:
                    await self._join_all()
                    # Whoever may label may do so all the time; the thread that writes is everybody's.
                    await asyncio.sleep(min(loop.time() - now, LONGEST_PAUSE))
                now = loop.time()
                if len(self._waiting) >= FULL or now - written >= self._config.write_seconds:
                    written = now
                    await self._try(self._write)
                if now - told >= self._config.report_seconds:
                    told = now
                    await self._try(self._tell)
        finally:
            self._ended = True
            _fail(self._asked, StoreClosedError("the agent stops"))

    async def finish(self) -> None:
        """Write what is left, the runners' last words with it."""
        await self._try(self._write)

    async def _pause(self) -> None:
        """Until somebody asks, the memory is full, or it is time."""
        try:
            async with asyncio.timeout(min(self._config.write_seconds, self._config.report_seconds)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (StoreError, sqlite3.Error, OSError) as error:
            self._count("labels-not-stored")
            log.warning("predictions or labels not stored; tried again", extra={"why": str(error)})

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        skipped, self._skipped = self._skipped, 0
        classes, self._classes = self._classes, {}
        privacy, self._privacy = self._privacy, {}
        if not waiting and not skipped:
            return
        try:
            await self._store.append(waiting, classes, skipped=skipped, now=self._clock(), privacy=privacy)
        except BaseException:
            lost = max(0, len(waiting) + len(self._waiting) - MOST_WAITING)
            self._waiting = waiting[lost:] + self._waiting
            self._skipped += skipped + lost
            self._classes = classes | self._classes
            self._privacy = privacy | self._privacy
            raise

    async def _join_all(self) -> None:
        """What was said in the last second may be what they are about, so it is written first."""
        asked, self._asked = self._asked, []
        try:
            await self._write()
        except (StoreError, sqlite3.Error, OSError) as error:
            _fail(asked, error)
            return
        for model in dict.fromkeys(each.model for each in asked):
            await self._join_one(model, [each for each in asked if each.model == model])
        self._changed = True
        await self._try(self._look)

    async def _join_one(self, model: str, asked: list[_Asked]) -> None:
        try:
            answers = await self._store.join(
                model, [label for each in asked for label in each.labels], self._clock()
            )
        except (StoreError, sqlite3.Error, OSError) as error:
            _fail(asked, error)
            return
        start = 0
        for each in asked:
            end = start + len(each.labels)
            if not each.answers.done():
                each.answers.set_result(answers[start:end])
            start = end

    async def _look(self) -> None:
        """Read the figures anew, and judge them; what is found for the first time is told."""
        suspicious, contradicted = set(self._suspicious), set(self._contradicted)
        self._figures = await self._store.figures()
        self._suspicious = {
            key: why
            for key, figure in self._figures.items()
            if key.origin != "model" and (why := why_suspicious(_tally(figure))) is not None
        }
        self._contradicted = {
            key: why for key, tally in self._real().items() if (why := why_contradicted(tally)) is not None
        }
        if not self._looked:  # found, and told, before this start
            self._looked = True
            return
        for suspect in set(self._suspicious) - suspicious:
            text = f"labels of origin {suspect.origin}{_of(suspect.slice)}: {self._suspicious[suspect]}"
            self._event("labels-suspicious", text, suspect.model, suspect.release)
        for key in set(self._contradicted) - contradicted:
            self._event(
                "estimate-contradicted",
                f"the accuracy estimate{_of(key[2])} is off: {self._contradicted[key]}",
                key[0],
                key[1],
            )

    def _real(self) -> dict[Key, Tally]:
        """Labels that count as the truth, whoever gave them."""
        real: dict[Key, Tally] = {}
        for key, figure in self._figures.items():
            if key.origin != "model" and key not in self._suspicious:
                whole = (key.model, key.release, key.slice)
                real[whole] = real.get(whole, Tally()).plus(_tally(figure))
        return real

    async def _tell(self) -> None:
        """Tell the hub of days whose figures have changed; each is durable in the outbox before it counts as told."""
        while self._changed:
            changed = await self._store.changed(MOST_CHANGED)
            if changed:
                await self._outbox.append(*(self._record(each) for each in changed))
                await self._store.told(changed)
            self._changed = len(changed) == MOST_CHANGED

    def _record(self, each: Accuracy) -> Accuracy:
        key = FigureKey(each.model, each.release, each.slice, each.origin)
        return replace(each, time=self._clock(), suspicious=key in self._suspicious)

    def _figure(self, key: FigureKey, figure: Figure) -> AccuracyFigure:
        low, high = interval(figure.correct, figure.rows)
        estimate = self._estimates.get((key.model, key.release, key.slice))
        return AccuracyFigure(
            model=key.model,
            release=key.release,
            slice=key.slice,
            origin=key.origin,
            opened=figure.opened,
            closed=figure.closed,
            rows=figure.rows,
            correct=figure.correct,
            low=low,
            high=high,
            expected=_tally(figure).expected,
            suspicious=self._suspicious.get(key),
            contradicts=self._contradicted.get((key.model, key.release, key.slice)),
            estimate=None if estimate is None else estimate.accuracy,
            estimate_low=None if estimate is None else estimate.low,
            estimate_high=None if estimate is None else estimate.high,
        )

    def _event(self, kind: str, text: str, model: str, release: int) -> None:
        self._recorder.record_soon(
            Event(time=self._clock(), severity="warning", kind=kind, text=text, model=model, release=release)
        )


def _fail(asked: Iterable[_Asked], error: Exception) -> None:
    for each in asked:
        if not each.answers.done():
            each.answers.set_exception(error)


def _tally(figure: Figure) -> Tally:
    return Tally(
        rows=figure.rows,
        correct=figure.correct,
        expected_rows=figure.expected_rows,
        expected_correct=figure.expected_correct,
    )


def _order(key: FigureKey) -> tuple[str, int, str, str]:
    return key.model, -key.release, key.slice or "", key.origin


def _of(part: str | None) -> str:
    return "" if part is None else f" for {part}"
