"""The real command as a process, against a real control server on a real Unix socket."""

import asyncio
import json
import os
import pwd
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.protocol.control import (
    MAX_REQUEST_BYTES,
    AccuracyResult,
    BundleReport,
    BundleResult,
    DataResult,
    Done,
    DriftResult,
    EventsResult,
    LabelResult,
    ModelsResult,
    PlanResult,
    ReceiptResult,
    SampleDeparture,
    SampleFileResult,
    SamplesResult,
    SampleView,
    StatusResult,
)
from agent.protocol.labels import AccuracyFigure, Label, LabelAnswer, LabelCounts
from agent.protocol.ledger import FlashWrites, LedgerReport, Traffic
from agent.protocol.samples import KeptSample, SampleTensor
from agent.protocol.state import (
    DeploymentReport,
    OutboxReport,
    Phase,
    Reason,
    ReportedState,
    ServingReport,
    TransferProgress,
)
from agent.protocol.telemetry import Event
from agent.service.control_server import ControlError, ControlServer

SERVING = ServingReport(
    model="digits", release=2, variant="onnx-int8", artifact="a" * 64, ready=True, requests=5, failures=0
)
STATE = ReportedState(
    device="camera-1",
    agent_version="0.1.0",
    hardware_class="cpu",
    boot="b1",
    sequence=4,
    time=1.7e9,
    held=False,
    inference_address=None,
    serving=(SERVING,),
    deployments=(),
    outbox=OutboxReport(epoch="e", recorded=3, acknowledged=0, pending=3, dropped={}, quarantined=0),
    errors={},
)


SPENT = LedgerReport(
    traffic=(
        Traffic(month="2026-11", purpose="artifacts", bytes_in=9_800_000, bytes_out=12_345),
        Traffic(month="2026-11", purpose="telemetry", bytes_in=900, bytes_out=61_000),
    ),
    flash=(
        FlashWrites(
            deployment="r7.camera-1",
            model="digits",
            release=2,
            began=1.7e9,
            ended=None,
            written_bytes=21_400_000,
        ),
    ),
)


ACCURACY = AccuracyResult(
    figures=(
        AccuracyFigure(
            model="digits",
            release=2,
            slice="camera=\x1b[31mleft",
            origin="system",
            opened=1_700_006_400.0,
            closed=1_700_092_800.0,
            rows=200,
            correct=187,
            low=0.892,
            high=0.962,
            expected=0.941,
            suspicious="they may be its own output",
            contradicts="Labels contradict it",
            estimate=0.95,
            estimate_low=0.93,
            estimate_high=0.97,
        ),
        AccuracyFigure(
            model="digits",
            release=2,
            origin="model",
            opened=1_700_006_400.0,
            closed=1_700_092_800.0,
            rows=20,
            correct=20,
            low=0.839,
            high=1.0,
            estimate=0.95,
            estimate_low=0.93,
            estimate_high=0.97,
        ),
    ),
    counts=LabelCounts(
        predictions=2_000, oldest=1_700_006_400.0, labelled=220, skipped=7, outcomes={"joined": 220}
    ),
)


KEPT = tuple(
    KeptSample(
        id=f"{number:032x}",
        model="digits",
        release=2,
        deployment="d-1",
        artifact="1" * 64,
        time=1.7e9,
        why=("low-confidence",),
        score=1.0,
        likeness="a",
        confidence=0.31,
        inputs=(SampleTensor(name="x", datatype="FP32", shape=(1, 2), data=struct.pack("<2f", number, 0.5)),),
        outputs=(SampleTensor(name="y", datatype="UINT8", shape=(1, 1), data=b"\x07"),),
    )
    for number in (1, 2)
)
SAMPLES = SamplesResult(
    enabled=True,
    may_leave=False,
    samples=(
        SampleView(
            id=KEPT[0].id,
            model="digits",
            release=2,
            time=1.7e9,
            why=("low-confidence",),
            confidence=0.31,
            size_bytes=600,
            left=1.7e9,
        ),
    ),
    count=2,
    size_bytes=1200,
    maximum_bytes=16 * 1024 * 1024,
    departures=(
        SampleDeparture(
            request="request-1",
            time=1.7e9,
            accepted=False,
            code="not-an-approver",
            text="nobody may ask",
            purpose="a \x1b[31mred herring",
        ),
    ),
)


class Device:
    def __init__(self) -> None:
        self.answer = StatusResult(state=STATE, connected=True)
        self.told: list[object] = []
        self.report: BundleReport | None = None
        self.envelope = ""

    async def status(self) -> StatusResult:
        return self.answer

    async def models(self, model: str | None) -> ModelsResult:
        if model == "faces":
            raise ControlError("unknown-model", "this device has no model 'faces'; it has: digits")
        return ModelsResult(models=())

    async def drift(self, model: str | None, limit: int) -> DriftResult:
        self.told.append((model, limit))
        return DriftResult(reports=())

    async def events(self, limit: int) -> EventsResult:
        text = "refused \x1b[31mby a release's own words"
        return EventsResult(events=(Event(time=1.7e9, severity="warning", kind="deployment", text=text),))

    async def plan(self) -> PlanResult:
        return PlanResult(steps=())

    async def data(self) -> DataResult:
        return DataResult(ledger=SPENT)

    async def label(self, model: str | None, labels: Sequence[Label]) -> LabelResult:
        if model == "faces":
            raise ControlError("unknown-model", "no model faces on this device; it has: digits")
        self.told.append((model, labels))
        return LabelResult(
            answers=tuple(
                LabelAnswer(request=each.request, outcome="joined", text="release 2 said 3")
                if each.request != "nobody"
                else LabelAnswer(
                    request=each.request, outcome="unknown", text="no request of that id is kept"
                )
                for each in labels
            )
        )

    async def accuracy(self, model: str | None) -> AccuracyResult:
        self.told.append(model)
        return ACCURACY

    async def samples(self, model: str | None, limit: int) -> SamplesResult:
        self.told.append((model, limit))
        return SAMPLES

    async def samples_clear(self, who: str) -> Done:
        return Done(message=f"3 samples were deleted by {who}")

    async def samples_export(self, after: str | None, who: str) -> SampleFileResult:
        self.told.append(who)
        return SampleFileResult(
            sample=next((each for each in KEPT if after is None or each.id > after), None)
        )

    async def hold(self, reason: str | None) -> Done:
        self.told.append(reason)
        return Done(message="held")

    async def resume(self) -> Done:
        raise ControlError("refused", "the device is not held")

    async def rollback(self, model: str, reason: str | None) -> Done:
        raise ControlError("nothing-to-roll-back", f"model {model}: no earlier release is kept")

    async def sync(self) -> Done:
        raise RuntimeError("a mistake in the agent")

    async def accept(self, model: str | None, *, now: bool, who: str) -> Done:
        self.told.append((model, now, who))
        return Done(message="accepted")

    async def bundle_install(self, descriptor: int) -> BundleResult:
        self.told.append(os.pread(descriptor, 2**20, 0))
        os.close(descriptor)
        return BundleResult(report=self.report)

    async def bundle_status(self) -> BundleResult:
        return BundleResult(report=self.report)

    async def bundle_receipt(self) -> ReceiptResult:
        if self.report is None:
            raise ControlError("no-bundle", "no bundle has been offered to this device")
        return ReceiptResult(envelope=self.envelope, final=self.report.stage == "taken")


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def counted() -> list[str]:
    return []


@pytest.fixture
async def path(tmp_path: Path, device: Device, counted: list[str]) -> AsyncIterator[Path]:
    server = ControlServer(tmp_path / "control.sock", device, counted.append)
    await server.start()
    yield tmp_path / "control.sock"
    await server.close()


async def run(path: Path, *arguments: str) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "agent.cli.main", "--socket", str(path), *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def exchange(path: Path, *lines: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=2**20)
    answers = []
    for line in lines:
        writer.write(line)
        answers.append(json.loads(await asyncio.wait_for(reader.readline(), 10)))
    writer.close()
    await writer.wait_closed()
    return answers


async def test_status_says_first_whether_it_is_fine(path: Path, device: Device) -> None:
    code, out, _ = await run(path, "status")
    assert (code, out.splitlines()[0]) == (0, "camera-1: all is well")
    device.answer = replace(device.answer, connected=False)
    code, out, _ = await run(path, "status")
    assert (code, out.splitlines()[0]) == (10, "camera-1: 1 thing is wrong")
    assert "3 telemetry records wait" in out.splitlines()[1]
    assert "edgeward sync" in out.splitlines()[2]


async def test_an_update_says_how_far_it_is_how_fast_and_by_which_way(path: Path, device: Device) -> None:
    progress = TransferProgress(
        done_bytes=3_100_000,
        total_bytes=9_800_000,
        bytes_per_second=214_000.0,
        eta_seconds=31.3,
        way="http",
    )
    deployment = DeploymentReport(
        deployment="r7.camera-1",
        model="digits",
        release=2,
        phase=Phase.FETCHING,
        since=1.7e9,
        progress=progress,
    )
    device.answer = replace(device.answer, state=replace(STATE, deployments=(deployment,)))
    _, out, _ = await run(path, "status")
    assert (
        "digits release 2 is being installed: fetching 3.1 of 9.8 MB, 214 kB/s, 31 s left, over http" in out
    )


async def test_data_says_what_was_spent_and_for_what(path: Path) -> None:
    code, out, _ = await run(path, "data")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["2026-11", "artifacts", "9.8", "MB", "12.3", "kB"] in rows
    assert ["2026-11", "all", "9.8", "MB", "73.3", "kB"] in rows
    assert "r7.camera-1" in out
    assert "under way, or cut off" in out
    code, out, _ = await run(path, "data", "--json")
    assert json.loads(out)["ledger"]["traffic"][0]["purpose"] == "artifacts"


async def test_options_reach_the_agent_and_json_is_the_typed_result(path: Path, device: Device) -> None:
    assert (await run(path, "hold", "--reason", "lens is cleaned"))[0] == 0
    code, out, _ = await run(path, "drift", "digits", "--history", "7", "--json")
    assert (code, json.loads(out)) == (0, {"type": "drift", "reports": []})
    assert device.told == ["lens is cleaned", ("digits", 7)]


async def test_an_acceptance_carries_the_user_that_the_kernel_names(path: Path, device: Device) -> None:
    assert (await run(path, "accept", "digits", "--now"))[0] == 0
    assert (await run(path, "accept", "--all"))[0] == 0
    who = f"{pwd.getpwuid(os.geteuid()).pw_name} (uid {os.geteuid()})"
    assert device.told == [("digits", True, who), (None, False, who)]
    await exchange(path, b'{"method":"accept","model":"digits"}\n')
    assert device.told[-1] == ("digits", False, who), "whatever a client says of itself"


async def test_an_update_that_waits_says_for_what_and_what_can_be_done(path: Path, device: Device) -> None:
    waits = (
        "the maintenance window Sat 02:00-04:00 Europe/Berlin opens in 3 h 12 min (Sat 2026-11-28 02:00 CET)"
    )
    deployment = DeploymentReport(
        deployment="r7.camera-1",
        model="digits",
        release=2,
        phase=Phase.READY,
        since=1.7e9,
        waiting_for=Reason(code="outside-window", text=waits),
    )
    device.answer = replace(device.answer, state=replace(STATE, deployments=(deployment,)))
    code, out, _ = await run(path, "status")
    assert code == 0, "a device that keeps its owner's hours is fine"
    said = " ".join(out.split())
    assert f"digits release 2 waits: {waits}" in said
    assert "to install it at once: edgeward accept digits --now" in said


async def test_words_from_outside_can_not_steer_the_terminal(path: Path) -> None:
    _, out, _ = await run(path, "events")
    assert "refused" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("models", "faces"), 5, "edgeward models"),
        (("rollback", "digits"), 1, "no earlier release"),
        (("resume",), 1, "not held"),
        (("sync",), 1, "journalctl -u edgeward-agent"),
        (("dance",), 2, "usage: edgeward"),
        (("accept",), 2, "one of the arguments MODEL --all is required"),
        (("events", "--limit", "0"), 2, "usage: edgeward"),
    ],
)
async def test_refusals_have_words_and_codes(
    path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = await run(path, *arguments)
    assert (got, out) == (code, "")
    assert words in err


async def test_no_agent_says_what_to_try(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path / "absent.sock", "status")
    assert code == 3
    assert "systemctl status edgeward-agent" in err


@pytest.mark.parametrize(
    "line", [b"hello\n", b'{"method":"dance"}\n', b'{"method":"rollback"}\n', b"\xff\n", b"[" * 3000 + b"\n"]
)
async def test_a_malformed_line_is_answered_and_counted(path: Path, counted: list[str], line: bytes) -> None:
    wrong, right = await exchange(path, line, b'{"method":"status"}\n')
    assert wrong["error"]["code"] == "malformed"
    assert right["result"]["type"] == "status"
    assert counted == ["control-malformed"]


async def test_an_oversized_line_is_answered_and_counted(path: Path, counted: list[str]) -> None:
    (answer,) = await exchange(path, b"x" * (MAX_REQUEST_BYTES * 3) + b"\n")
    assert answer["error"]["code"] == "too-large"
    assert counted == ["control-oversized"]


def test_mode_keeps_others_out(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


async def test_stale_socket_is_replaced_and_a_live_one_is_not(
    path: Path, tmp_path: Path, device: Device
) -> None:
    with pytest.raises(OSError, match="another agent"):
        await ControlServer(path, device, lambda _: None).start()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "stale.sock"))
    server = ControlServer(tmp_path / "stale.sock", device, lambda _: None)
    await server.start()
    await server.close()
