"""The whole run: starts everything, measures in turns, stops everything."""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

from hw_bench.errors import AbsentError, SubjectError
from hw_bench.machine import machine
from hw_bench.serving.echo import EchoServer
from hw_bench.serving.edgeward import EdgewardServer
from hw_bench.serving.front import FrontServer
from hw_bench.serving.memory import of_runners, of_server
from hw_bench.serving.messages import Route
from hw_bench.serving.mlserver import MlServer
from hw_bench.serving.model import ServedModel
from hw_bench.serving.pairs import Sample
from hw_bench.serving.report import ServingReport, summarise
from hw_bench.serving.rounds import Effort, measure
from hw_bench.serving.servers import Server
from hw_bench.serving.spawn import measure_starts
from hw_bench.serving.targets import EDGEWARD_JSON, Figure, outcomes
from hw_bench.serving.triton import TritonServer

PARTS = ("memory", "requests", "spawn", "large")
PACKAGES = ("onnxruntime", "ai-edge-litert", "tritonclient", "numpy", "uvloop", "httptools")


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure."""

    models: dict[str, ServedModel]
    """By runtime; ``onnx`` must be there."""
    peers: Path
    effort: Effort
    parts: tuple[str, ...] = PARTS
    servers: tuple[str, ...] = ()
    """Names of those to measure; none: all."""
    command: str = ""


class _Findings:
    """What has been found so far."""

    def __init__(self) -> None:
        self.rounds: dict[tuple[str, int], list[Sample]] = {}
        self.figures: list[Figure] = []
        self.setups: dict[str, str] = {}
        self.absent: dict[str, str] = {}


def run(plan: Plan, tell: Callable[[str], None]) -> ServingReport:
    """Measure every part of the plan.

    Raises:
        BenchError: something that must run did not; a peer that is not installed is only told in the report.
    """
    if "onnx" not in plan.models:
        raise SubjectError("the serving bench needs an ONNX variant: every server runs it on ONNX Runtime")
    findings = _Findings()
    load = os.getloadavg()[0]
    parts: dict[str, Callable[[], None]] = {
        "memory": lambda: _memory(plan, findings, tell),
        "requests": lambda: _requests(plan, findings, tell),
        "spawn": lambda: _starts(plan, findings, tell),
        "large": lambda: _large(plan, findings, tell),
    }
    for name, part in parts.items():
        if name in plan.parts:
            tell(name)
            part()
    model = plan.models["onnx"]
    return ServingReport(
        machine=machine(),
        made=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        command=plan.command,
        model=f"{model.name} ({model.path.name}, {model.path.stat().st_size:,} bytes, {len(model.row)} bytes a row)",
        packages={name: version(name) for name in PACKAGES},
        load_before=load,
        load_after=os.getloadavg()[0],
        servers=findings.setups,
        absent=findings.absent,
        measured=summarise(findings.rounds),
        outcomes=outcomes(findings.rounds),
        figures=tuple(findings.figures),
    )


def _requests(plan: Plan, findings: _Findings, tell: Callable[[str], None]) -> None:
    """All servers run at once, and are asked in turns; idle ones cost next to nothing."""
    model = plan.models["onnx"]
    runner = EdgewardServer(model)
    routes: list[Route] = []
    with ExitStack() as running:
        servers: list[Server] = [EchoServer(model), runner, FrontServer(runner), *_peers(plan)]
        for server in servers:
            if plan.servers and server.name not in plan.servers:
                continue
            tell(f"starting {server.name}")
            try:
                server.start()
            except AbsentError as error:
                findings.absent[server.name] = str(error)
                continue
            running.callback(server.stop)
            findings.setups[server.name] = server.setup
            routes.append(model.route(server.name, server.address, server.how))
            if server is runner:
                routes.append(model.route(EDGEWARD_JSON, server.address, "json"))
        findings.rounds.update(measure(routes, plan.effort, tell))


def _peers(plan: Plan) -> Sequence[Server]:
    model = plan.models["onnx"]
    return (TritonServer(model, plan.peers), MlServer(model, plan.peers))


def _memory(plan: Plan, findings: _Findings, tell: Callable[[str], None]) -> None:
    for model in plan.models.values():
        findings.figures += of_runners(model)
    for server in _peers(plan):
        tell(f"memory of {server.name}")
        try:
            findings.figures.append(of_server(server, plan.models["onnx"]))
        except AbsentError as error:
            findings.absent[server.name] = str(error)


def _starts(plan: Plan, findings: _Findings, tell: Callable[[str], None]) -> None:
    for model in plan.models.values():
        tell(f"spawn, {model.runtime}")
        findings.figures.append(measure_starts(model, plan.effort.starts))


# NumPy comes into this process with this one: after the memory was measured, whose shared pages it would share.


def _large(plan: Plan, findings: _Findings, tell: Callable[[str], None]) -> None:
    from hw_bench.serving.large import measure_large  # noqa: PLC0415

    findings.rounds.update(measure_large(plan.effort, tell))
