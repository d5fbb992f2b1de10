"""``edgeward label``: one label, or a file of them, in as many requests as they need."""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.protocol.control import ControlRequest, LabelResult
from agent.protocol.errors import MalformedMessageError
from agent.protocol.ids import is_name
from agent.protocol.label_file import checked_label, read_labels
from agent.protocol.labels import MAX_LABELS, Label, LabelAnswer


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> LabelResult:
    """Send them and gather the answers.

    Raises:
        CliError: a label or the file is not what it should be; the labels before it may have been sent.
    """
    if (arguments.file is None) == (arguments.label is None):
        parser.error("label: give REQUEST and LABEL, or --file FILE")
    if arguments.model is not None and not is_name(arguments.model):
        parser.error(f"argument --model: {arguments.model!r} is not a model's name")
    try:
        return _labels(arguments)
    except MalformedMessageError as error:
        raise CliError(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{arguments.file} can't be read: {error}") from error


def _labels(arguments: argparse.Namespace) -> LabelResult:
    if arguments.file is None:
        row = {"request": arguments.request, "label": arguments.label}
        return _send(arguments, iter([checked_label(row, arguments.origin, "label")]))
    if str(arguments.file) == "-":
        return _send(arguments, read_labels(sys.stdin, arguments.origin, "standard input"))
    with arguments.file.open(encoding="utf-8-sig", newline="") as file:
        return _send(arguments, read_labels(file, arguments.origin, str(arguments.file)))


def _send(arguments: argparse.Namespace, labels: Iterator[Label]) -> LabelResult:
    answers: list[LabelAnswer] = []
    while part := tuple(islice(labels, MAX_LABELS)):
        result = ask(arguments.socket, ControlRequest(method="label", model=arguments.model, labels=part))
        if isinstance(result, LabelResult):
            answers += result.answers
    return LabelResult(answers=tuple(answers))
