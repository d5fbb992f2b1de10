"""What a technician is told of a candidate that is compared on live requests."""

import pytest
from msgspec.structs import replace

from agent.cli.render import render
from agent.protocol.control import ModelReport, ModelsResult
from agent.protocol.state import Phase, Reason, ShadowFigures
from tests.contract.protocol.samples import DEPLOYMENT, MEASUREMENT


def shown(capsys: pytest.CaptureFixture[str], report: ModelReport) -> str:
    render(ModelsResult(models=(report,)))
    return " ".join(capsys.readouterr().out.split())


def test_how_far_it_is_and_what_was_seen_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Reason(code="shadowing", text="shadowing: 37 of 200")
    under_way = replace(
        DEPLOYMENT, phase=Phase.PROBING, waiting_for=waiting, measurement=None, tried=(), chosen=None
    )
    assert "shadowing: 37" in shown(capsys, ModelReport(model="digits", deployment=under_way))
    seen = ShadowFigures(p50_ms=0.512, p99_ms=4.25, text="200 of 200 requests, 1.4 % disagree in 61 s")
    ended = replace(DEPLOYMENT, measurement=replace(MEASUREMENT, shadow=seen))
    assert (
        "on live requests: 200 of 200 requests, 1.4 % disagree in 61 s (answered at low priority: p50 0.512 ms, p99 4.25 ms)"
        in shown(capsys, ModelReport(model="digits", deployment=ended))
    )
    nothing = replace(
        DEPLOYMENT, measurement=replace(MEASUREMENT, shadow=ShadowFigures(text="not compared: no"))
    )
    out = shown(capsys, ModelReport(model="digits", deployment=nothing))
    assert "on live requests: not compared: no" in out
    assert "low priority" not in out
