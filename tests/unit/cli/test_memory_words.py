"""What a technician is told of a device whose memory or artifacts are damaged."""

import pytest
from msgspec.structs import replace

from agent.cli.health import findings
from agent.protocol.control import StatusResult
from agent.protocol.state import Reason
from tests.contract.protocol.samples import REPORTED, SERVING


def told(*problems: Reason, degraded: Reason | None = None) -> dict[str, tuple[str, str]]:
    serving = replace(SERVING, model="digits", release=1, degraded=degraded)
    state = replace(REPORTED, serving=(serving,), problems=problems)
    found = findings(StatusResult(state=state, connected=True))
    return {each.text: (each.severity, each.todo) for each in found}


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        ("state-damaged", "docs/durability.md, Both copies lost"),
        ("trust-damaged", "docs/durability.md, Both copies lost"),
        ("disk-refuses", "df -h, dmesg"),
        ("telemetry-unavailable", "df -h, dmesg"),
        ("not-known-yet", "edgeward events"),
    ],
)
def test_each_problem_with_its_memory_has_a_way_on(code: str, todo: str) -> None:
    severity, way_on = told(Reason(code=code, text="what is wrong"))[f"what is wrong ({code})"]
    assert severity == "problem"
    assert todo in way_on


def test_a_release_that_stands_in_is_a_problem_and_no_smaller_variant() -> None:
    why = Reason(
        code="artifact-damaged",
        text="the file of release 2 is damaged; release 1 serves until it is fetched again",
    )
    found = told(degraded=why)
    severity, way_on = found[f"digits release 1 stands in: {why.text}"]
    assert severity == "problem"
    assert "fetched again by itself" in way_on
    assert not any("smaller variant" in text for text in found)
