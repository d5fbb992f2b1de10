"""What a technician is told of telemetry's monthly bytes."""

import pytest
from msgspec.structs import replace

from agent.cli.budget_words import WORDS, budget_line
from agent.cli.health import findings
from agent.cli.render import render
from agent.protocol.control import DataResult, StatusResult
from agent.protocol.ledger import LedgerReport, Thinning
from tests.contract.protocol.samples import BUDGET, REPORTED

LINE = (
    "telemetry's budget for 2026-11: 900 kB of 1 MB used, 100 kB left; only warnings, drift and errors are sent; "
    "the rest waits, merged to days"
)


def test_status_and_data_say_what_is_used_what_is_left_and_what_is_thinned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def shown(result: StatusResult | DataResult) -> str:
        render(result)
        return " ".join(capsys.readouterr().out.split())

    assert budget_line(BUDGET) == LINE
    assert LINE in shown(StatusResult(state=REPORTED, connected=True))
    assert LINE in shown(DataResult(ledger=LedgerReport(traffic=(), flash=(), budget=BUDGET)))
    assert "budget" not in shown(DataResult(ledger=LedgerReport(traffic=(), flash=())))


@pytest.mark.parametrize("thinning", WORDS)
def test_thinning_is_told_with_what_to_do_about_it(thinning: Thinning) -> None:
    outbox = replace(REPORTED.outbox, budget=replace(BUDGET, thinning=thinning))
    found = findings(StatusResult(state=replace(REPORTED, outbox=outbox), connected=True))
    about = [each for each in found if "telemetry's bytes" in each.text]
    if thinning == "none":
        assert about == []
    else:
        assert [(each.severity, WORDS[thinning] in each.text) for each in about] == [("notice", True)]
        assert "telemetry.monthly_bytes" in about[0].todo
