"""``edgeward-hub``: the hub's commands."""

import argparse
import sys
from collections.abc import Sequence

from agent.protocol.words import as_lines
from cloud_hub.cli import (
    approving,
    bundles,
    ceremonies,
    labels,
    local,
    remote,
    retraining,
    samples,
    telemetry,
)
from cloud_hub.errors import HubError
from cloud_hub.signing.errors import SigningError

EXIT_PROBLEM = 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="edgeward-hub",
        description="Govern which models a fleet of devices runs, and who has approved them.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    local.add_commands(commands)
    ceremonies.add_commands(commands)
    remote.add_commands(commands)
    approving.add_commands(commands)
    bundles.add_commands(commands)
    samples.add_commands(commands)
    labels.add_commands(commands)
    telemetry.add_commands(commands)
    retraining.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when it did what was asked."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except (HubError, SigningError) as error:
        # What is told may be in somebody else's words: a key's name, a path in the metadata, a hub's answer.
        print(as_lines([f"edgeward-hub: {error}"]), file=sys.stderr)
        return EXIT_PROBLEM
    except KeyboardInterrupt:
        return 130
