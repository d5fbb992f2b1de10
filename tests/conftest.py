import pytest

from tests.support.counts import counted
from tests.support.own_children import a_test_begins


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    a_test_begins()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what sweeps and matrices counted, also where everything passed and nobody asked for output."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    lines = counted(reports)
    if lines:
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(line)
