"""``edgeward drift``: ask, and keep to the signal that was asked for."""

import argparse

import msgspec

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.protocol.control import ControlRequest, DriftReport, DriftResult


def run(arguments: argparse.Namespace, request: ControlRequest) -> DriftResult:
    """The agent's answer; of one signal where ``--signal`` names it.

    Raises:
        CliError: no model here has that signal.
    """
    result = ask(arguments.socket, request)
    if not isinstance(result, DriftResult):
        raise CliError("the agent answered something else", "compare: edgeward --version")
    if arguments.signal is None:
        return result
    kept = tuple(
        report for report in (_only(each, arguments.signal) for each in result.reports) if report.signals
    )
    if not kept:
        known = sorted({signal.reference.name for report in result.reports for signal in report.signals})
        raise CliError(
            f"no signal {arguments.signal!r} here; there are: {', '.join(known) or 'none'}",
            "see what moved: edgeward drift",
        )
    return DriftResult(reports=kept)


def _only(report: DriftReport, name: str) -> DriftReport:
    return msgspec.structs.replace(
        report, signals=tuple(each for each in report.signals if each.reference.name == name)
    )
