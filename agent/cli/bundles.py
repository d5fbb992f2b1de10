"""``edgeward bundle``: hand a bundle in, look into one, write the receipt."""

import argparse
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from agent.cli.client import ask
from agent.cli.errors import BundleRefusedError, CliError
from agent.protocol.bundle import OpenedBundle, open_bundle
from agent.protocol.control import (
    BundleReport,
    BundleResult,
    ControlRequest,
    ControlResult,
    ReceiptResult,
)
from agent.protocol.envelope import RECEIPT_TYPE, open_envelope
from agent.protocol.errors import ProtocolError
from agent.protocol.receipt import MAX_RECEIPT_ENVELOPE_BYTES, RECEIPT_SUFFIX, Receipt
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase

LOOK_SECONDS = 0.3
BEGIN_SECONDS = 30.0
"""How long an update may take to begin before this command stops waiting for it."""
CHUNK_BYTES = 1024 * 1024
MEBIBYTE = 1024 * 1024
COPY_AGAIN = "copy it to the stick again, and compare: edgeward-hub bundle verify"
NEXT_STEPS = {
    "wrong-device": "take the stick to the device it is for, or export one for this device",
    "wrong-hub": "export it on the hub that this device was enrolled with",
    "rollback-attack": "export a new one: edgeward-hub bundle export",
    "expired": "export a new one: edgeward-hub bundle export",
    "bundle-gone": "put the stick back and hand the same bundle in again",
    "no-room": "see what the device keeps: edgeward models; its quota is device.artifact_bytes",
    "incomplete-bundle": "export it again: edgeward-hub bundle export --complete",
    "damaged-bundle": COPY_AGAIN,
    "not-a-bundle": COPY_AGAIN,
}
NOT_BEGUN = "has not begun; see: edgeward plan"
ADVICE = "see the agent's log: journalctl -u edgeward-agent"


def run(arguments: argparse.Namespace) -> ControlResult | None:
    """One action; the result that ``--json`` prints, or None where everything has been said.

    Raises:
        CliError: it can't be done.
    """
    actions: dict[str, Callable[[argparse.Namespace], BundleResult | ReceiptResult | None]] = {
        "install": _install,
        "show": _show,
        "status": _status,
        "receipt": _receipt,
    }
    result = actions[arguments.action](arguments)
    return result if arguments.json else None


# --- Handing one in ---------------------------------------------------------------------------------------------


def _install(arguments: argparse.Namespace) -> BundleResult:
    with _opened(arguments.file) as descriptor:
        try:
            ask(arguments.socket, ControlRequest(method="bundle-install"), descriptor)
        except BundleRefusedError as error:
            raise BundleRefusedError(f"{arguments.file}: {error}", COPY_AGAIN) from error
    try:
        report = _follow(arguments)
    finally:
        if arguments.receipt is not None:
            _write_receipt(arguments, arguments.receipt)
    _judge(report)
    return BundleResult(report=report)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file, open for reading; a pipe would block, so it is refused before anyone waits for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CliError(f"{path}: not a file", "name the bundle itself: FILE.edgeward")
        yield descriptor
    finally:
        os.close(descriptor)


def _follow(arguments: argparse.Namespace) -> BundleReport:
    """Say how it goes until it has settled."""
    said: set[str] = set()
    taken_at: float | None = None
    while True:
        report = _ask_status(arguments)
        if report.stage == "refused":
            return report
        if report.stage == "taken" and taken_at is None:
            taken_at = time.monotonic()
        waited = 0.0 if taken_at is None else time.monotonic() - taken_at
        for line in _lines(report):
            if line.endswith(NOT_BEGUN) and waited < BEGIN_SECONDS:
                continue  # it is about to
            if line not in said and not arguments.json:
                _say(line)
            said.add(line)
        if taken_at is not None and _settled(report, to_the_end=arguments.wait, waited=waited):
            return report
        time.sleep(LOOK_SECONDS)


def _ask_status(arguments: argparse.Namespace) -> BundleReport:
    result = ask(arguments.socket, ControlRequest(method="bundle-status"))
    report = result.report if isinstance(result, BundleResult) else None
    if report is None:
        raise CliError(
            "no bundle has been offered to this device", "hand one in: edgeward bundle install FILE"
        )
    return report


def _settled(report: BundleReport, *, to_the_end: bool, waited: float) -> bool:
    known = {each.deployment: each for each in report.deployments}
    for order in report.orders:
        deployment = known.get(order.deployment)
        if deployment is None:
            if to_the_end or waited < BEGIN_SECONDS:
                return False
        elif deployment.phase not in FINAL_PHASES:
            rests = deployment.phase is Phase.PROBATION or deployment.waiting_for is not None
            if to_the_end or not rests:
                return False
    return True


def _judge(report: BundleReport) -> None:
    """Raises BundleRefusedError where the bundle, or something in it, was not taken."""
    if report.refusal is not None:
        reason = report.refusal
        raise BundleRefusedError(
            f"the bundle is refused: {reason.text} ({reason.code})", NEXT_STEPS.get(reason.code, ADVICE)
        )
    failed = [each for each in report.deployments if each.phase in (Phase.REFUSED, Phase.ROLLED_BACK)]
    if failed:
        names = ", ".join(f"{each.model} {each.release}" for each in failed)
        raise BundleRefusedError(
            f"{names}: not committed; what was there before serves on", "see why: edgeward events"
        )


# --- In words ---------------------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> BundleResult:
    report = _ask_status(arguments)
    if not arguments.json:
        _say(f"bundle {report.bundle[:16]}…, handed in {_time(report.offered)}")
        if report.refusal is not None:
            _say(f"refused: {report.refusal.text} ({report.refusal.code})")
        for line in _lines(report):
            _say(line)
    return BundleResult(report=report)


def _lines(report: BundleReport) -> list[str]:
    if report.stage == "checking":
        return ["checking its signatures"]
    if report.stage == "copying":
        if not report.total_bytes:
            return []
        tenths = 10 * report.done_bytes // report.total_bytes
        return [f"copying {_size(report.total_bytes)}: {10 * tenths} %"]
    if report.stage == "refused":
        return []
    known = {each.deployment: each for each in report.deployments}
    what = f"copied {_size(report.total_bytes)}" if report.total_bytes else "nothing had to be copied"
    lines = [f"{what}: the stick may be removed"]
    for order in report.orders:
        deployment = known.get(order.deployment)
        state = NOT_BEGUN if deployment is None else _state(deployment)
        lines.append(f"{order.model} {order.release}: {state}")
    return lines


def _state(report: DeploymentReport) -> str:
    text = report.phase.value.replace("-", " ")
    why = report.waiting_for or report.reason
    if report.phase is Phase.PROBATION:
        return f"serves; {'on probation' if why is None else why.text}"
    waits = "waits: " if report.waiting_for is not None else ""
    return text if why is None else f"{text}, {waits}{why.text}"


def _say(line: str) -> None:
    """Words from outside must not steer the terminal."""
    print("".join(letter if letter.isprintable() else "�" for letter in line), flush=True)


def _size(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB" if size >= MEBIBYTE else f"{size / 1024:.1f} KiB"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


# --- Looking into one -------------------------------------------------------------------------------------------


def _show(arguments: argparse.Namespace) -> None:
    with _opened(arguments.file) as descriptor:
        size = os.fstat(descriptor).st_size
        try:
            bundle = open_bundle(lambda offset, length: os.pread(descriptor, length, offset), size)
        except ProtocolError as error:
            raise BundleRefusedError(f"{arguments.file}: {error}", COPY_AGAIN) from error
        damaged = list(_damaged(descriptor, bundle))
    index = bundle.index
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(index), indent=2).decode())
    else:
        _say(f"bundle {bundle.digest[:16]}…, {_size(size)}, made {_time(index.created)} on hub {index.hub}")
        over = " (expired)" if index.expires <= time.time() else ""
        _say(f"can be installed until {_time(index.expires)}{over}")
        for device in index.devices:
            orders = ", ".join(f"{order.model} {order.release}" for order in device.orders)
            _say(f"  {device.device} ({device.hardware_class}): {orders}")
    if damaged:
        raise BundleRefusedError(f"{arguments.file}: damaged: {', '.join(damaged)}", COPY_AGAIN)
    if not arguments.json:
        _say(
            "every byte is there; the signatures are checked when it is installed, or by: edgeward-hub bundle verify"
        )


def _damaged(descriptor: int, bundle: OpenedBundle) -> Iterator[str]:
    for file, start in bundle.places.values():
        digest, end = sha256(), start + file.size
        for offset in range(start, end, CHUNK_BYTES):
            digest.update(os.pread(descriptor, min(CHUNK_BYTES, end - offset), offset))
        if digest.hexdigest() != file.sha256:
            yield file.name


# --- The receipt ------------------------------------------------------------------------------------------------


def _receipt(arguments: argparse.Namespace) -> ReceiptResult:
    if arguments.wait:
        _follow(arguments)
    return _write_receipt(arguments, arguments.output)


def _write_receipt(arguments: argparse.Namespace, target: Path) -> ReceiptResult:
    result = ask(arguments.socket, ControlRequest(method="bundle-receipt"))
    if not isinstance(result, ReceiptResult):
        raise CliError("the agent's answer is not a receipt")
    envelope = result.envelope.encode()
    path = target / _receipt_name(envelope) if target.is_dir() else target
    try:
        _write(path, envelope)
    except OSError as error:
        raise CliError(f"{error.filename or path}: {error.strerror}") from error
    if not arguments.json:
        how = (
            "" if result.final else "; not everything has ended yet: edgeward bundle receipt writes it again"
        )
        _say(f"wrote {path}{how}")
    return result


def _receipt_name(envelope: bytes) -> str:
    """For instance ``camera-1-2026-11-28.receipt``."""
    payload = open_envelope(envelope, RECEIPT_TYPE, limit=MAX_RECEIPT_ENVELOPE_BYTES).payload
    receipt = msgspec.json.decode(payload, type=Receipt)
    return f"{receipt.device}-{datetime.fromtimestamp(receipt.time, UTC):%Y-%m-%d}{RECEIPT_SUFFIX}"


def _write(path: Path, data: bytes) -> None:
    """Whole, and on the stick when this returns: it is pulled next."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
