import signal

import msgspec

from agent.protocol.batch_codec import encode_batch
from agent.protocol.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.state import DesiredState, Phase, Presence
from agent.protocol.telemetry import Event, Record, TelemetryAck, TelemetryBatch
from agent.protocol.topics import Channel
from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    MetadataSource,
    TransferProblem,
    TransferResponse,
)
from tests.integration.cloud_hub.conftest import HubProcess, WireDevice, until
from tests.unit.cloud_hub.hub_world import People, assignments, report, report_bytes
from tests.unit.cloud_hub.sample_release import release_files


def events(*sequences: int, epoch: str = "e1") -> TelemetryBatch:
    body = Event(time=1.0, severity="info", kind="hold", text="held")
    records = tuple(Record(sequence=sequence, body=body) for sequence in sequences)
    return TelemetryBatch(device="cam-1", epoch=epoch, records=records)


def fetch(wire: WireDevice, source: ArtifactSource | MetadataSource, block: int = 65_536) -> bytes:
    data = b""
    while True:
        request = BlockRequest(id=len(data), source=source, offset=len(data), length=block)
        wire.send(Channel.REQUEST, encode_msgpack(request))
        response = decode_msgpack(wire.expect(Channel.RESPONSE), TransferResponse)
        assert isinstance(response, Block), response
        assert (response.id, response.offset) == (len(data), len(data))
        data += response.data
        if len(data) == response.total:
            return data


def test_a_rollout_over_the_wire_with_blocks_and_a_hub_that_is_killed(
    hub_process: HubProcess, people: People, wire: WireDevice
) -> None:
    files = release_files()
    people.publish(files)
    wire.send(Channel.PRESENCE, encode_json(Presence(online=True, boot="b1")))
    people.ok("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1})
    desired = decode_json(wire.expect(Channel.DESIRED), DesiredState)
    (path,) = assignments(desired.director)
    assert path == "models/digits/1/manifest.json"

    assert b'"timestamp"' in fetch(wire, MetadataSource(name="timestamp.json"))
    shown = people.ok("viewer", "GET", "/v1/releases/digits/1")
    digest = next(file["sha256"] for file in shown["files"] if file["filename"] == "onnx-fp32.onnx")
    assert fetch(wire, ArtifactSource(sha256=digest), 10_000) == files["onnx-fp32.onnx"]

    assert hub_process.kill() == -signal.SIGKILL
    hub_process.start()
    wire.wait_ready()
    wire.send(Channel.PRESENCE, encode_json(Presence(online=True, boot="b1")))
    again = decode_json(wire.expect(Channel.DESIRED), DesiredState)
    assert again.director == desired.director

    (deployment,) = assignments(again.director).values()
    state = report("cam-1", (deployment, 1, Phase.COMMITTED))
    wire.send(Channel.REPORTED, report_bytes(state))
    until(
        lambda: people.ok("viewer", "GET", "/v1/rollouts/1")["state"]["status"] == "completed",
        "the rollout completes",
    )


def test_telemetry_is_stored_once_and_acknowledged_each_time(people: People, wire: WireDevice) -> None:
    for batch in (events(1, 2), events(2, 3), events(1, 2, 3)):
        wire.send(Channel.TELEMETRY, encode_batch(batch))
        ack = decode_json(wire.expect(Channel.TELEMETRY_ACK), TelemetryAck)
        assert ack.sequences == tuple(record.sequence for record in batch.records)
    wire.send(Channel.TELEMETRY, encode_batch(events(1, epoch="e2")))
    wire.expect(Channel.TELEMETRY_ACK)
    (ledger,) = people.ok("viewer", "GET", "/v1/telemetry/counts")
    assert [(epoch["epoch"], epoch["records"]) for epoch in ledger["held"]] == [("e1", 3), ("e2", 1)]


def test_one_bad_record_is_refused_by_name_and_the_others_are_stored(wire: WireDevice) -> None:
    batch = msgspec.msgpack.decode(encode_batch(events(1, 2)))
    batch["records"][1]["body"]["type"] = "from-the-future"
    wire.send(Channel.TELEMETRY, msgspec.msgpack.encode(batch))
    ack = decode_json(wire.expect(Channel.TELEMETRY_ACK), TelemetryAck)
    assert ack.sequences == (1,)
    assert "from-the-future" in ack.refused["2"]


def test_what_is_wrong_is_counted_and_visible_and_stops_nothing(people: People, wire: WireDevice) -> None:
    wire.send(Channel.REPORTED, b"{not json")
    wire.send(Channel.TELEMETRY, b"x" * (MAX_MESSAGE_BYTES + 1))
    wire.send(
        Channel.TELEMETRY, encode_batch(msgspec.structs.replace(events(1), device="cam-2")), device="cam-2"
    )
    wire.send(Channel.PRESENCE, encode_json(Presence(online=True, boot="b1")), device="stranger")
    state = report("cam-2")
    wire.send(Channel.REPORTED, report_bytes(state))
    wire.send(Channel.REQUEST, b"\xc1")
    wire.send(
        Channel.REQUEST,
        encode_msgpack(BlockRequest(id=7, source=MetadataSource(name="9.root.json"), offset=0, length=10)),
    )
    problem = decode_msgpack(wire.expect(Channel.RESPONSE), TransferResponse)
    assert isinstance(problem, TransferProblem)
    assert (problem.id, problem.code) == (7, "not-found")
    wanted = {"malformed": 2, "oversized": 1, "unknown-device": 2, "wrong-device": 1}

    def counted() -> bool:
        found: dict[str, int] = people.ok("viewer", "GET", "/v1/fleet")["bridge"]["refused"]
        return found == wanted

    until(counted, f"the hub counts {wanted}")  # telemetry has a thread of its own


def test_sigterm_ends_the_hub_cleanly(hub_process: HubProcess) -> None:
    assert hub_process.kill(signal.SIGTERM) == 0
