"""``edgeward label``: one label, or a file of them, in as many requests as they need."""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TextIO

import msgspec

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.protocol.control import ControlRequest, LabelResult
from agent.protocol.ids import is_name
from agent.protocol.labels import MAX_LABELS, Label, LabelAnswer

_COLUMNS = ("request", "label", "origin", "time")


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> LabelResult:
    """Send them and gather the answers.

    Raises:
        CliError: a label or the file is not what it should be; labels before it have been sent.
    """
    if (arguments.file is None) == (arguments.label is None):
        parser.error("label: give REQUEST and LABEL, or --file FILE")
    if arguments.model is not None and not is_name(arguments.model):
        parser.error(f"argument --model: {arguments.model!r} is not a model's name")
    if arguments.file is None:
        row = {"request": arguments.request, "label": arguments.label}
        return _send(arguments, iter([_checked(row, arguments.origin, "label")]))
    if str(arguments.file) == "-":
        return _send(arguments, _read(sys.stdin, arguments.origin, "standard input"))
    try:
        with arguments.file.open(encoding="utf-8-sig", newline="") as file:
            return _send(arguments, _read(file, arguments.origin, str(arguments.file)))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{arguments.file} can't be read: {error}") from error


def _send(arguments: argparse.Namespace, labels: Iterator[Label]) -> LabelResult:
    answers: list[LabelAnswer] = []
    while part := tuple(islice(labels, MAX_LABELS)):
        result = ask(arguments.socket, ControlRequest(method="label", model=arguments.model, labels=part))
        if isinstance(result, LabelResult):
            answers += result.answers
    return LabelResult(answers=tuple(answers))


def _read(file: TextIO, origin: str, where: str) -> Iterator[Label]:
    reader = csv.reader(file)
    columns: Sequence[str] = next(reader, [])
    wrong = [name for name in columns if name not in _COLUMNS]
    if wrong or not {"request", "label"} <= set(columns):
        raise CliError(
            f"{where}, line 1: expected the columns' names: request,label and if you like origin,time; "
            f"got {','.join(columns)[:200]!r}"
        )
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise CliError(
                    f"{where}, line {reader.line_num}: {len(row)} values for {len(columns)} columns"
                )
            yield _checked(dict(zip(columns, row, strict=True)), origin, f"{where}, line {reader.line_num}")
    except csv.Error as error:
        raise CliError(f"{where}, line {reader.line_num}: {error}") from error


def _checked(row: dict[str, str], origin: str, where: str) -> Label:
    given = {name: value for name, value in row.items() if value != ""}
    try:
        # Not strict: a file has text where the wire has numbers.
        return msgspec.convert({"origin": origin} | given, Label, strict=False)
    except msgspec.ValidationError as error:
        raise CliError(f"{where}: {error}") from error
