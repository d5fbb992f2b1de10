"""What the fleet's page says of a device whose memory or artifacts are damaged."""

from msgspec.structs import replace

from agent.protocol.state import Phase, Reason
from cloud_hub.devices import service
from cloud_hub.hub import Hub
from tests.contract.protocol.samples import SERVING
from tests.unit.cloud_hub.hub_world import People, report, report_bytes


def test_its_problems_and_what_stands_in_are_errors_with_a_way_on(people: People, hub: Hub) -> None:
    people.enrol("cam-1")
    why = Reason(
        code="artifact-damaged",
        text="a file of release 2 is damaged; release 1 serves until it is fetched again",
    )
    serving = replace(SERVING, model="digits", release=1, ready=True, service_level=None, degraded=why)
    state = replace(
        report("cam-1", ("d2", 2, Phase.COMMITTED)),
        serving=(serving,),
        problems=(Reason(code="trust-damaged", text="trust.db: damaged"),),
    )
    hub.database.write(
        lambda session: service.take_report(
            session, service.get_device(session, "cam-1"), state, report_bytes(state), hub.now()
        )
    )
    found = people.ok("viewer", "GET", "/v1/fleet")["findings"]
    told = {each["what"]: each["severity"] for each in found if each["where"] == "cam-1"}
    assert told["Its own memory: trust.db: damaged (trust-damaged)."] == "error"
    assert told[f"digits 1 stands in: {why.text}"] == "error"
    assert not any("smaller variant" in text for text in told)
