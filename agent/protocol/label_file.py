"""Labels as CSV: what a person types and a system exports. Pure: the lines are an argument."""

import csv
from collections.abc import Iterable, Iterator

import msgspec

from agent.protocol.errors import MalformedMessageError
from agent.protocol.labels import Label

_COLUMNS = ("request", "label", "origin", "time")


def read_labels(lines: Iterable[str], origin: str, where: str) -> Iterator[Label]:
    """The labels of a file, one after the other.

    Args:
        lines: the first one names the columns: ``request`` and ``label``, and if you like ``origin`` and ``time``.
        origin: of the labels that have none of their own.
        where: the file, as errors are to call it.

    Raises:
        MalformedMessageError: what is wrong, and in which line; the labels before it have been given.
    """
    reader = csv.reader(lines)
    try:
        columns = next(reader, [])
        if not {"request", "label"} <= set(columns) <= set(_COLUMNS) or len(set(columns)) < len(columns):
            raise MalformedMessageError(
                f"{where}, line 1: expected the columns' names, request,label and if you like origin,time; "
                f"got {','.join(columns)[:200]!r}"
            )
        for row in reader:
            if not row:
                continue
            line = f"{where}, line {reader.line_num}"
            if len(row) != len(columns):
                raise MalformedMessageError(f"{line}: {len(row)} values for {len(columns)} columns")
            yield checked_label(dict(zip(columns, row, strict=True)), origin, line)
    except csv.Error as error:
        raise MalformedMessageError(f"{where}, line {reader.line_num}: {error}") from error


def checked_label(row: dict[str, str], origin: str, where: str) -> Label:
    """One label from text; raises MalformedMessageError that begins with ``where``."""
    given = {name: value for name, value in row.items() if value}
    try:
        # Not strict: text has numbers as text.
        return msgspec.convert({"origin": origin} | given, Label, strict=False)
    except msgspec.ValidationError as error:
        raise MalformedMessageError(f"{where}: {error}") from error
