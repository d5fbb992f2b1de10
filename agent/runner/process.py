"""The life of one inference process, told by its control channel."""

import asyncio
import gc
import logging
import math
import mmap
import os
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from agent.control_channel import ControlChannel
from agent.protocol.access import Access, OutputLimits
from agent.protocol.errors import ProtocolError
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import (
    Accept,
    Accepting,
    Alive,
    Drain,
    Drained,
    EndShadow,
    FromRunner,
    LabelsGiven,
    LabelsJoined,
    Loaded,
    LoadFailed,
    Probe,
    ProbeFailed,
    Shadow,
    Start,
    Stop,
    ToRunner,
    YieldTcp,
)
from agent.runner.backends import Array, Backend, InferenceError, ModelRefusedError, open_backend, zeros
from agent.runner.books import open_books
from agent.runner.errors import ControlError, LoadError, ProbeError
from agent.runner.inference_queue import InferenceQueue
from agent.runner.label_routes import LabelRoutes
from agent.runner.model_routes import ModelRoutes
from agent.runner.openinference import Contract
from agent.runner.output_policy import OutputPolicy
from agent.runner.probe import run_probe
from agent.runner.query_budget import QueryLedger
from agent.runner.registrations import Registrations
from agent.runner.routes import Router
from agent.runner.server_routes import ServerRoutes
from agent.runner.service import ModelService
from agent.runner.shadow import ShadowFeed
from agent.runner.shared_memory import Regions
from agent.runner.statistics import ServingStatistics
from agent.web.server import Server
from agent.web.tls import TlsError, server_context

_log = logging.getLogger(__name__)

STATISTICS_SECONDS = 1.0
"""Between two reports, while anything changed."""

WARM_UP_RUNS = 3

Channel: TypeAlias = ControlChannel[ToRunner, FromRunner]


async def run(control_fd: int) -> int:
    """Serve one model until the supervisor says stop or is gone; gives the exit status."""
    channel: Channel = await ControlChannel.open(control_fd, ToRunner)
    try:
        return await _live(channel)
    except (ControlError, ProtocolError):
        _log.exception("the supervisor broke the contract")
        return 2
    finally:
        await channel.close()


async def _live(channel: Channel) -> int:
    start = await channel.receive()
    if start is None:
        return 0
    if not isinstance(start, Start):
        raise ControlError(f"control channel: expected start first, got {type(start).__name__}")
    begun = time.perf_counter()
    try:
        runner = Runner(start, channel)
    except LoadError as error:
        channel.send(LoadFailed(code=error.code, text=str(error)))
        return 1
    # What is loaded stays: a collection need not look through it at every few hundred requests.
    gc.collect()
    gc.freeze()
    runner.listen()
    channel.send(Loaded(backend=runner.backend.describe(), load_ms=(time.perf_counter() - begun) * 1e3))
    return await runner.serve()


class Runner:
    """A loaded model, its server, and what the supervisor may ask of it."""

    def __init__(self, start: Start, channel: Channel) -> None:
        """Load and warm up.

        Raises:
            LoadError: the model is refused, can't be run, or something that is needed with it can't be used.
        """
        self._start = start
        self._channel = channel
        self._tls = _tls(start.access)
        self.backend, row_seconds = _load(start)
        self._queue = InferenceQueue(
            self.backend.infer,
            depth=start.queue_depth,
            row_seconds=row_seconds,
            cancel=self.backend.cancel,
        )
        books = open_books(start, channel.send)
        self._books = books.keeping
        self._labels = LabelRoutes(start.labels_from, self._pass_on_labels)
        self._contract = Contract(start.inputs, start.outputs, start.labels, parameter=books.parameter)
        self._regions = Regions(
            start.shared_memory,
            maximum_bytes=start.maximum_body_bytes,
            registrations=Registrations(start.access.registrations_fd),
        )
        self._service = self._make_service()
        self._server = Server(
            self._router().answer,
            refused=self._service.refused,
            maximum_body_bytes=start.maximum_body_bytes,
            hosts=start.access.hosts,
        )

    def _router(self) -> Router:
        service = self._service
        model = ModelRoutes(service, maximum_body_bytes=self._start.maximum_body_bytes)
        server = ServerRoutes(service, self._regions)
        return Router(
            [*server.routes(), *model.routes(), *self._labels.routes()],
            {"model": service.model, "version": service.version},
        )

    def _make_service(self) -> ModelService:
        return ModelService(
            model=self._start.model,
            release=self._start.release,
            backend=self.backend,
            contract=self._contract,
            regions=self._regions,
            ledger=_ledger(self._start.access),
            policy=_policy(self._start),
            default_deadline_s=self._start.default_deadline_ms / 1e3,
            statistics=ServingStatistics(),
            books=self._books,
            queue=self._queue,
        )

    def listen(self) -> None:
        """Accept on the private socket."""
        self._server.listen(self._start.private_fd)

    async def serve(self) -> int:
        """Do what the supervisor says; gives the exit status."""
        reporting = asyncio.create_task(self._report_regularly())
        accepted = False
        draining: asyncio.Task[None] | None = None
        try:
            while True:
                message = await self._channel.receive()
                match message:
                    case None | Stop():
                        return 0
                    case Probe():
                        self._probe(message)
                    case Accept() if not accepted and draining is None:
                        accepted = True
                        self._accept()
                    case Shadow() | EndShadow():
                        self._shadow(message)
                    case LabelsJoined():
                        self._labels.joined(message)
                    case YieldTcp():
                        self._server.yield_tcp()
                    case Drain() if draining is None:
                        draining = asyncio.create_task(self._drain(message.idle_seconds))
                    case _:
                        raise ControlError(f"control channel: {type(message).__name__} is not allowed now")
        finally:
            reporting.cancel()
            if draining is not None:
                draining.cancel()
            self._server.abort()
            self._queue.close()
            self._regions.close()
            self._end_shadow()
            self._say_goodbye()

    def _probe(self, probe: Probe) -> None:
        if self._queue.running_seconds:
            text = "an inference is under way, and a model never runs twice at the same time"
            self._channel.send(ProbeFailed(code="busy", text=text))
            return
        try:
            report = run_probe(
                probe, backend=self.backend, contract=self._contract, variant=self._start.variant
            )
        except ProbeError as error:
            self._channel.send(ProbeFailed(code=error.code, text=str(error)))
        else:
            self._channel.send(report)

    def _shadow(self, order: Shadow | EndShadow) -> None:
        feed = self._service.shadow
        if isinstance(order, Shadow):
            self._end_shadow()
            self._service.shadow = ShadowFeed(
                order, model=self._start.model, contract=self._contract, ended=self._end_shadow
            )
        elif feed is not None and feed.session == order.session:
            self._end_shadow()

    def _end_shadow(self) -> None:
        feed, self._service.shadow = self._service.shadow, None
        if feed is not None:
            feed.close()
            self._channel.send(feed.report(final=True))

    def _accept(self) -> None:
        self._service.open()
        for fd in self._start.shared_fds:
            self._server.listen(fd, tls=self._tls)
        self._channel.send(Accepting())

    async def _drain(self, idle_seconds: float) -> None:
        closed_idle = await self._server.drain(idle_seconds)
        self._say_goodbye()
        self._channel.send(Drained(closed_idle=closed_idle))
        self._channel.finish()

    def _say_goodbye(self) -> None:
        """The open window and the last counts; a second time there is nothing left to say."""
        self._books.close()
        self._report()

    def _report(self) -> None:
        statistics = self._service.statistics
        if statistics.changed():
            self._channel.send(statistics.report())

    def _pass_on_labels(self, given: LabelsGiven) -> None:
        self._books.tick()  # what was said a moment ago may be what they are about
        self._channel.send(given)

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(STATISTICS_SECONDS)
            self._channel.send(Alive(running_seconds=self._queue.running_seconds))
            self._server.sweep()
            self._books.tick()
            self._labels.tick()
            self._report()
            feed = self._service.shadow
            if feed is not None and feed.changed():
                self._channel.send(feed.report())


def _load(start: Start) -> tuple[Backend, float]:
    """The warmed-up backend, and what its quickest warm-up run of one row took, seconds."""
    try:
        backend = open_backend(
            start.runtime,
            Path(start.artifact_path),
            inputs=start.inputs,
            outputs=start.outputs,
            threads=start.threads,
            sha256=start.artifact_sha256,
        )
    except ModelRefusedError as error:
        raise LoadError(error.code, str(error)) from error
    blank = _zeros(start.inputs)
    quickest = math.inf
    try:
        for _ in range(WARM_UP_RUNS):
            begun = time.perf_counter()
            backend.infer(blank)
            quickest = min(quickest, time.perf_counter() - begun)
    except InferenceError as error:
        raise LoadError("warm-up-failed", f"the model fails on zeros: {error}") from error
    return backend, quickest


def _tls(access: Access) -> ssl.SSLContext | None:
    try:
        return None if access.tls is None else server_context(access.tls)
    except TlsError as error:
        raise LoadError("tls-unusable", str(error)) from error


def _ledger(access: Access) -> QueryLedger | None:
    if access.query_budget is None:
        return None
    if access.ledger_fd is None:
        raise ControlError("start: a query budget without memory for its ledger")
    # Who can read the model's file is kept from nothing.
    exempt = frozenset({0, os.geteuid()})
    return QueryLedger(access.query_budget, mmap.mmap(access.ledger_fd, 0), exempt=exempt)


def _policy(start: Start) -> OutputPolicy | None:
    limits = start.access.outputs
    if limits == OutputLimits():
        return None
    try:
        return OutputPolicy(limits, start.outputs)
    except ValueError as error:
        raise LoadError("output-policy", f"serving.outputs.{start.model}: {error}") from error


def _zeros(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    return {
        spec.name: zeros(spec.datatype, [1 if size == -1 else size for size in spec.shape]) for spec in specs
    }
