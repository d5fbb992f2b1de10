"""Counts that a run prints at its end, so that CI shows how many points a sweep or a matrix really had.

A test says ``count(request, "kill matrix", points=12, ended=12, serving=12)``; the summary then has the line
``kill matrix: 12 points, 12 ended, 12 serving``. It travels with the test's report, so also from a worker of pytest-xdist.
"""

from collections.abc import Iterable

import pytest

_PROPERTY = "count"


def count(request: pytest.FixtureRequest, what: str, **numbers: float) -> None:
    """Say ``what`` was counted: each number with its name, underscores as spaces, in this order."""
    said = ", ".join(f"{number:g} {name.replace('_', ' ')}" for name, number in numbers.items())
    request.node.user_properties.append((_PROPERTY, f"{what}: {said}"))


def counted(reports: Iterable[object]) -> list[str]:
    """The lines of all tests that ran, in their order."""
    lines: list[str] = []
    for report in reports:
        if isinstance(report, pytest.TestReport) and report.when == "call":
            lines += [str(line) for name, line in report.user_properties if name == _PROPERTY]
    return lines
