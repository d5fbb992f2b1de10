"""Wrong bytes: every file is the one that was signed, or the release is refused; what serves, serves on.

All at once on one device, a model for each attack, so that the waits are shared and nobody's trouble is another's.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agent.protocol.codec import encode_msgpack
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.state import FINAL_PHASES, DeploymentReport, Phase, Reason
from agent.protocol.topics import Channel
from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    Location,
    LocationRequest,
    TransferProblem,
)
from tests.acceptance.processes import StepFailedError, wait_for
from tests.fault.attacks import forging, releases
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import (
    SPARE_MODELS,
    Answer,
    HostileHub,
    artifacts_by,
    no_location,
)
from tests.fault.attacks.hostile_web import HostileWeb
from tests.support.mosquitto import Broker

DEVICE = "cam-a"
PETABYTE = 2**50
TRICKLE_SECONDS = 2.5
Change = Callable[[BlockRequest, Block], Iterable[Answer]]


def _swapped(_request: BlockRequest, honest: Block) -> Iterable[Answer]:
    return (replace(honest, data=bytes(len(honest.data))),)


def _shorter(_request: BlockRequest, honest: Block) -> Iterable[Answer]:
    total = honest.total - 1
    return (replace(honest, total=total, data=honest.data[: total - honest.offset]),)


def _longer(_request: BlockRequest, honest: Block) -> Iterable[Answer]:
    return (replace(honest, total=honest.total + 2**40),)


def _absent(request: BlockRequest, _honest: Block) -> Iterable[Answer]:
    return (TransferProblem(id=request.id, code="not-found", text="gone"),)


def _too_much(_request: BlockRequest, honest: Block) -> Iterable[Answer]:
    return (replace(honest, data=honest.data + b"and more"),)


def _elsewhere(_request: BlockRequest, honest: Block) -> Iterable[Answer]:
    return (replace(honest, offset=honest.offset + 1),)


def _busy(request: BlockRequest, _honest: Block) -> Iterable[Answer]:
    text = "\x1b[2J" + "later " * 40_000
    return (TransferProblem(id=request.id, code="malformed", text=text),)


BYTES: dict[str, tuple[Change, str, str]] = {
    "swapped": (_swapped, "fetch-failed", "mqtt sent wrong bytes"),
    "shorter": (_shorter, "fetch-failed", "were signed"),
    "longer": (_longer, "fetch-failed", "were signed"),
    "absent": (_absent, "fetch-failed", "gone"),
    "too-much": (_too_much, "fetch-failed", "instead"),
    "elsewhere": (_elsewhere, "fetch-failed", "instead"),
    "words": (_busy, "fetch-failed", r"\x1b[2J"),
}
"""Attack → what becomes of a model file's blocks, the reason, and words of it."""


def _no_json(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, MANIFEST_FILENAME: b"\xff{"}


def _nested(files: dict[str, bytes]) -> dict[str, bytes]:
    return {**files, MANIFEST_FILENAME: b'{"schema": 1, "deep": ' + b"[" * 400_000}


def _newer(files: dict[str, bytes]) -> dict[str, bytes]:
    manifest = msgspec.json.decode(files[MANIFEST_FILENAME])
    return {**files, MANIFEST_FILENAME: msgspec.json.encode({**manifest, "schema": 99})}


def _other_model(files: dict[str, bytes]) -> dict[str, bytes]:
    manifest = msgspec.json.decode(files[MANIFEST_FILENAME])
    return {**files, MANIFEST_FILENAME: msgspec.json.encode({**manifest, "model": "digits"})}


def _petabyte(files: dict[str, bytes]) -> dict[str, bytes]:
    manifest = msgspec.json.decode(files[MANIFEST_FILENAME])
    manifest["variants"][0]["artifact"]["size"] = PETABYTE
    return {**files, MANIFEST_FILENAME: msgspec.json.encode(manifest)}


MANIFESTS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "no-json": (_no_json, "malformed-manifest"),
    "nested": (_nested, "malformed-manifest"),
    "newer": (_newer, "newer-schema"),
    "other-model": (_other_model, "wrong-release"),
    "petabyte": (_petabyte, "no-room"),
}
"""Attack → what approvers were led to sign as its manifest, and the reason."""
WEB: dict[str, str] = {
    "redirect": "redirected to",
    "other": "http sent wrong bytes",
    "endless": "more than",
    "bomb": "encoded as 'gzip'",
    "version": "ETag",
    "abroad": "http",
}
"""Attack → words of what becomes of an address for a model file, which MQTT does not give; each but the last is a mode of
:class:`HostileWeb`."""
ABROAD = "http://192.0.2.1/artifact"
HONEST, SLOW = "digits", "trickle"
ATTACKS = (SLOW, *BYTES, *MANIFESTS, *WEB)
MODEL_OF = {HONEST: HONEST, **dict(zip(ATTACKS, SPARE_MODELS, strict=False))}


class Dripping:
    """One block of a file at a time, the first that is asked for, each a while after the one before."""

    def __init__(self, hub: HostileHub) -> None:
        self._hub = hub
        self._asked: dict[int, Block] = {}
        self._timer: threading.Timer | None = None

    def __call__(self, _request: BlockRequest, honest: Block) -> Iterable[Answer]:
        self._asked[honest.offset] = honest
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(TRICKLE_SECONDS, self._drip)
            self._timer.daemon = True
            self._timer.start()
        return ()

    def _drip(self) -> None:
        block = self._asked.pop(min(self._asked))
        self._hub.publish(DEVICE, Channel.RESPONSE, encode_msgpack(block))
        if self._asked:
            self._timer = threading.Timer(TRICKLE_SECONDS, self._drip)
            self._timer.daemon = True
            self._timer.start()


@pytest.fixture(scope="module")
def web() -> Iterator[HostileWeb]:
    made = HostileWeb()
    yield made
    made.close()


@pytest.fixture(scope="module")
def hub(shared_hub: HostileHub, web: HostileWeb) -> Iterator[HostileHub]:
    """A hub with one release of each model, each spoiled in its own way."""
    changes: dict[str, Change] = {
        SLOW: Dripping(shared_hub),
        **{name: one[0] for name, one in BYTES.items()},
        **dict.fromkeys(WEB, _absent),
    }
    by_digest: dict[str, Change] = {}
    addresses: dict[str, str] = {}
    for attack in ATTACKS:
        model = MODEL_OF[attack]
        ballast = 10 * releases.BALLAST_BYTES if attack == SLOW else releases.BALLAST_BYTES
        files = releases.content(model, 1, ballast=ballast)
        shared_hub.release(model, 1, MANIFESTS[attack][0](files) if attack in MANIFESTS else files)
        ref = releases.reference_to("", files[releases.MODEL_FILE])
        if attack in changes:
            by_digest[ref.sha256] = changes[attack]
        if attack in WEB:
            addresses[ref.sha256] = ABROAD if attack == "abroad" else web.url(attack, ref.size, ref.sha256)

    def spoil(request: BlockRequest, honest: Block) -> Iterable[Answer]:
        assert isinstance(request.source, ArtifactSource)
        change = by_digest.get(request.source.sha256)
        return (honest,) if change is None else change(request, honest)

    def locate(request: LocationRequest) -> Location | TransferProblem:
        url = addresses.get(request.sha256)
        if url is None:
            return no_location(request)
        return Location(id=request.id, url=url, etag=f'"{request.sha256}"', expires=time.time() + 600)

    shared_hub.tamper, shared_hub.locate = artifacts_by(spoil), locate
    petabyte = MODEL_OF["petabyte"]
    path = f"models/{petabyte}/1/{releases.MODEL_FILE}"
    forging.list_role(
        shared_hub, lambda role: setattr(role.targets[path], "length", PETABYTE), "ada", "ben", model=petabyte
    )
    yield shared_hub
    shared_hub.tamper, shared_hub.locate = None, no_location


@pytest.fixture(scope="module")
def device(
    hub: HostileHub, broker: Broker, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedDevice]:
    made = AttackedDevice(tmp_path_factory.mktemp(DEVICE), DEVICE, hub, authority, broker.port)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def outcomes(device: AttackedDevice, hub: HostileHub) -> dict[str, DeploymentReport]:
    """Attack → how the one deployment of its model ended."""
    device.desire(hub.direct_all(dict.fromkeys(MODEL_OF.values(), 1), device=DEVICE))

    def ended() -> dict[str, DeploymentReport] | None:
        device.service.require_alive()
        models = device.models()
        found = {attack: models[model].deployment for attack, model in MODEL_OF.items() if model in models}
        honest = found.get(HONEST)
        if honest is not None and honest.phase is Phase.PROBATION:
            device.answer()
        over = {attack: report for attack, report in found.items() if report and report.phase in FINAL_PHASES}
        return over if len(over) == len(MODEL_OF) else None

    try:
        return wait_for("every deployment to end", ended, seconds=2 * SECONDS, every=0.1)
    except StepFailedError as error:
        reports = [report.deployment for report in device.models().values()]
        going = [report for report in reports if report and report.phase not in FINAL_PHASES]
        raise AssertionError(f"{error}; still going: {going}") from error


def test_the_honest_release_is_not_held_up(
    outcomes: dict[str, DeploymentReport], device: AttackedDevice
) -> None:
    assert outcomes[HONEST].phase is Phase.COMMITTED
    assert device.answer() == 1


@pytest.mark.parametrize("attack", BYTES)
def test_blocks_that_are_not_what_was_signed(outcomes: dict[str, DeploymentReport], attack: str) -> None:
    _change, code, words = BYTES[attack]
    reason = refusal_of(outcomes[attack])
    assert reason.code == code
    assert words in reason.text
    assert reason.text.isprintable()


def test_a_trickle_of_blocks(outcomes: dict[str, DeploymentReport]) -> None:
    """Slow retrieval: less than ``transfer.minimum_bytes_per_second`` is a failure of the way, and failures are counted."""
    reason = refusal_of(outcomes[SLOW])
    assert reason.code == "fetch-failed"
    assert "bytes/s are asked for" in reason.text


@pytest.mark.parametrize("attack", WEB)
def test_addresses_that_lead_elsewhere(outcomes: dict[str, DeploymentReport], attack: str) -> None:
    reason = refusal_of(outcomes[attack])
    assert reason.code == "fetch-failed"
    assert WEB[attack] in reason.text


def test_a_redirect_is_not_followed(outcomes: dict[str, DeploymentReport], web: HostileWeb) -> None:
    assert outcomes
    assert web.secrets == 0
    assert any("redirect" in path for path in web.asked)


@pytest.mark.parametrize("attack", MANIFESTS)
def test_manifests_that_approvers_were_led_to_sign(
    outcomes: dict[str, DeploymentReport], attack: str
) -> None:
    assert refusal_of(outcomes[attack]).code == MANIFESTS[attack][1]


def test_nothing_of_it_is_left(outcomes: dict[str, DeploymentReport], device: AttackedDevice) -> None:
    """No file of a refused release fills the disk, the log has no trace of a crash, the hub was told of each."""
    assert set(outcomes) == set(MODEL_OF)
    kept = sum(path.stat().st_size for path in device.config.state.glob("artifacts/**/*") if path.is_file())
    whole = sum(map(len, releases.content(HONEST, 1).values()))
    assert kept < len(MODEL_OF) * whole
    assert "Traceback" not in device.log()
    refused = {MODEL_OF[attack] for attack in ATTACKS}
    device.hears(
        lambda report: refused == {one.model for one in report.deployments if one.phase is Phase.REFUSED}, 0
    )


def refusal_of(report: DeploymentReport) -> Reason:
    assert report.phase is Phase.REFUSED, report
    assert report.reason is not None
    return report.reason
