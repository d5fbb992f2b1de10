"""What `edgeward status` says of trust, of the clock and of a link that fails."""

import pytest
from msgspec.structs import replace

from agent.cli.health import Finding, findings
from agent.protocol.control import StatusResult
from agent.protocol.state import Reason, TrustReport
from tests.integration.cli.test_command import STATE


def said(*codes: str) -> list[Finding]:
    """Findings about trust alone."""
    warnings = tuple(Reason(code=code, text=f"words of {code}") for code in codes)
    trust = TrustReport(hub_time=1.0, expiry=(), withdrawn=(), warnings=warnings)
    status = StatusResult(state=replace(STATE, trust=trust), connected=True)
    return [finding for finding in findings(status) if finding.text.startswith("words of")]


@pytest.mark.parametrize(
    ("code", "severity", "todo"),
    [
        ("role-expires", "notice", "tell whoever runs the hub"),
        ("role-expired", "problem", "tell whoever runs the hub"),
        ("release-withdrawn", "problem", "tell whoever runs the hub"),
        ("clock-ahead", "problem", "timedatectl"),
        ("clock-behind", "notice", "timedatectl"),
    ],
)
def test_each_warning_has_its_weight_and_says_what_to_do(code: str, severity: str, todo: str) -> None:
    (finding,) = said(code)
    assert finding.severity == severity
    assert todo in finding.todo


def test_a_link_that_fails_says_why() -> None:
    status = StatusResult(
        state=STATE, connected=False, link_problem="hub:8883: the certificate of hub expired"
    )
    text = next(finding.text for finding in findings(status) if "no connection" in finding.text)
    assert "(hub:8883: the certificate of hub expired)" in text
