import pytest

from agent.protocol.codec import encode_json, encode_msgpack
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.state import Command, DesiredState
from agent.protocol.telemetry import TelemetryAck
from agent.protocol.topics import Channel, topic
from agent.protocol.transfer import Block
from agent.transport.inbox import Inbox

SYNC = encode_json(Command(command="sync"))


def test_each_kind_goes_to_its_handler() -> None:
    inbox = Inbox("cam-1")
    got: list[object] = []
    inbox.on(DesiredState, got.append)
    inbox.on(TelemetryAck, got.append)
    inbox.on(Command, got.append)
    inbox.on(Block, got.append)
    desired = DesiredState(device="cam-1", director="{}")
    ack = TelemetryAck(epoch="e", sequences=(1,))
    block = Block(id=1, offset=0, total=1, data=b"x")
    inbox.take(topic("cam-1", Channel.DESIRED), encode_json(desired))
    inbox.take(topic("cam-1", Channel.TELEMETRY_ACK), encode_json(ack))
    inbox.take(topic("cam-1", Channel.COMMAND), SYNC)
    inbox.take(topic("cam-1", Channel.RESPONSE), encode_msgpack(block))
    assert got == [desired, ack, Command(command="sync"), block]
    assert inbox.errors == {}


@pytest.mark.parametrize(
    ("name", "payload", "kind"),
    [
        ("some/where/else", SYNC, "unknown-topic"),
        ("edgeward/v1/cam-1/gossip", SYNC, "unknown-topic"),
        ("edgeward/v1/cam-1/reported", b"{}", "unknown-topic"),
        ("edgeward/v1/cam-2/command", SYNC, "foreign-topic"),
        ("edgeward/v1/cam-1/command", b"{", "malformed-message"),
        ("edgeward/v1/cam-1/command", b"", "malformed-message"),
        ("edgeward/v1/cam-1/command", b"\xff", "malformed-message"),
        ("edgeward/v1/cam-1/command", b"[" * 100_000, "malformed-message"),
        ("edgeward/v1/cam-1/response", b"\xc1", "malformed-message"),
        ("edgeward/v1/cam-1/command", b" " * (MAX_MESSAGE_BYTES + 1), "oversized-message"),
        (
            "edgeward/v1/cam-1/desired",
            encode_json(DesiredState(device="cam-1", director="")),
            "unhandled-message",
        ),
    ],
)
def test_what_is_wrong_is_counted_by_kind(name: str, payload: bytes, kind: str) -> None:
    inbox = Inbox("cam-1")
    inbox.on(Command, lambda command: pytest.fail(f"{command} was handed on"))
    inbox.take(name, payload)
    assert inbox.errors == {kind: 1}


def test_a_handler_that_fails_does_not_stop_the_next_message() -> None:
    inbox = Inbox("cam-1")
    calls: list[Command] = []

    def fail_once(command: Command) -> None:
        calls.append(command)
        if len(calls) == 1:
            raise RuntimeError("broken")

    inbox.on(Command, fail_once)
    for _ in range(2):
        inbox.take(topic("cam-1", Channel.COMMAND), SYNC)
    assert len(calls) == 2
    assert inbox.errors == {"handler-failed": 1}
