"""``edgeward``: the technician's command. Talks to the agent over its control socket and to nothing else."""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.cli.health import findings
from agent.cli.parser import build_parser
from agent.protocol.control import ControlRequest, ControlResult, DriftResult, LabelResult, StatusResult
from agent.protocol.ids import NAME_PATTERN, is_name
from agent.protocol.labels import SETTLED
from agent.protocol.words import as_lines

SOMETHING_IS_WRONG = 10
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        result = _run(parser, arguments)
    except CliError as error:
        _print_error(error, as_json=arguments.json)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        if result is not None:
            _print_result(result, arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `edgeward events | head`
        sys.stderr.close()
    return _exit_code(result)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> ControlResult | None:
    """Do what was asked; None where everything has been said."""
    if arguments.method == "bundle":
        from agent.cli import bundles  # noqa: PLC0415 - the other commands need not load it

        return bundles.run(arguments)
    if arguments.method == "label":
        from agent.cli import labels  # noqa: PLC0415 - as above

        return labels.run(parser, arguments)
    if arguments.method == "samples":
        from agent.cli import samples  # noqa: PLC0415 - numpy is needed to write arrays alone

        return samples.run(arguments)
    if arguments.method == "drift":
        from agent.cli import drift  # noqa: PLC0415 - as above

        return drift.run(arguments, _request(parser, arguments))
    return ask(arguments.socket, _request(parser, arguments))


def _request(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> ControlRequest:
    model: str | None = getattr(arguments, "model", None)
    if model is not None and not is_name(model):
        parser.error(f"argument MODEL: {model!r} is not a model's name ({NAME_PATTERN})")
    reason: str | None = getattr(arguments, "reason", None)
    if reason is not None and len(reason) > 500:  # noqa: PLR2004 - ControlRequest's own bound
        parser.error("argument --reason: at most 500 characters")
    return ControlRequest(
        method=arguments.method,
        model=model,
        limit=getattr(arguments, "limit", None),
        reason=reason,
        now=getattr(arguments, "now", False),
    )


def _exit_code(result: ControlResult | None) -> int:
    if isinstance(result, StatusResult):
        wrong = any(finding.severity == "problem" for finding in findings(result))
        return SOMETHING_IS_WRONG if wrong else 0
    if isinstance(result, LabelResult):
        return 0 if all(answer.outcome in SETTLED for answer in result.answers) else 1
    return 0


def _print_result(result: ControlResult, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
        return
    from agent.cli.render import render  # noqa: PLC0415 - rich costs 60 ms that --json need not pay

    options = (
        {"signal": arguments.signal, "ascii_only": arguments.ascii} if isinstance(result, DriftResult) else {}
    )
    render(result, **options)


def _print_error(error: CliError, *, as_json: bool) -> None:
    if as_json:
        body = {"error": str(error), "next": error.hint, "exit_code": error.exit_code}
        print(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
        return
    # What is told may be in somebody else's words: a file's name in a bundle, a hub's answer.
    hint = [f"  next: {error.hint}"] if error.hint else []
    print(as_lines([f"edgeward: {error}", *hint]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
