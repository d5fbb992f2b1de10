"""What a person reads before saying yes is ours, line by line: whoever wrote a part of it can't redraw the terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, Key

from cloud_hub.approvals.remote_hub import Receipt
from cloud_hub.cli import main
from cloud_hub.cli.http import HubClient, RemoteError, _problem
from cloud_hub.signing.ceremony_file import encode
from cloud_hub.signing.changes import first
from cloud_hub.signing.documents import utc_now
from cloud_hub.signing.errors import HubAnswerError
from cloud_hub.signing.keys import NAME_FIELD
from tests.fault.approvals.hostile_hub import FILES, HostileHub, make_manifest

UP = "\x1b[9A\x1b[J"
"""Nine lines up, and everything below is gone."""
FORGED = f"Reads digits.{UP}\nApprove digits release 1?\r\u202e\x9b2J"


@pytest.fixture
def hub(tmp_path: Path) -> HostileHub:
    """A draft of release 1 is open."""
    hub = HostileHub(tmp_path)
    hub.submit(1)
    return hub


def forge_manifest(hub: HostileHub, **fields: object) -> None:
    content = {name: f"{name} of release 1".encode() for name in FILES}
    manifest = msgspec.structs.replace(make_manifest(1, content), **fields)
    hub.tamper_manifest(msgspec.json.encode(manifest))


def test_a_manifests_words_stay_in_their_lines(hub: HostileHub) -> None:
    hub.approve_as("ada", confirm=False)
    forge_manifest(hub, summary=FORGED, author=f"dan\n  author    the boss{UP}")
    hub.approve_as("ada", confirm=False)
    honest, forged = (text.split("\n") for text in hub.shown)
    assert all(line.isprintable() for line in forged)
    assert [line[:12] for line in forged] == [line[:12] for line in honest]
    (summary,) = (line for line in forged if line.startswith("  summary"))
    assert summary == (r"  summary   Reads digits.\x1b[9A\x1b[J\nApprove digits release 1?\r\u202e\x9b2J"), (
        "shown as it is, so that somebody wonders"
    )
    assert forged[2].startswith(r"  author    dan\n")


def test_spaces_do_not_push_words_to_where_a_line_of_ours_would_begin(hub: HostileHub) -> None:
    forge_manifest(hub, summary=f"Reads digits.{' ' * 200}  author    the boss")
    hub.approve_as("ada", confirm=False)
    assert "  summary   Reads digits. author the boss\n" in hub.shown[0]


def test_nothing_that_is_decided_by_is_cut(hub: HostileHub) -> None:
    forge_manifest(hub, summary="\x1b" * 499 + "!")
    hub.approve_as("ada", confirm=False)
    assert f"  summary   {chr(92)}x1b" in hub.shown[0]
    assert f"{'x1b' + chr(92)}x1b!\n" in hub.shown[0]


def answering(
    hub: HostileHub, path: str, answer: httpx.Response
) -> Callable[[httpx.Request], httpx.Response]:
    honest = hub.respond

    def respond(request: httpx.Request) -> httpx.Response:
        return answer if request.url.path.endswith(path) else honest(request)

    return respond


@pytest.mark.parametrize("path", ["/draft", "/signatures"])
def test_a_hubs_refusal_is_one_line(hub: HostileHub, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    refusal = httpx.Response(409, json={"detail": f"{FORGED}{'x' * 100_000}"})
    monkeypatch.setattr(hub, "respond", answering(hub, path, refusal))
    with pytest.raises(HubAnswerError, match="Reads digits") as caught:
        hub.approve_as("ada")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_200


def test_a_hubs_receipt_is_one_line(hub: HostileHub, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = Receipt(threshold=2, signed_by=("ada",), published=True)
    body = msgspec.json.encode(receipt).replace(b"ada", json.dumps(FORGED)[1:-1].encode())
    monkeypatch.setattr(hub, "respond", answering(hub, "/signatures", httpx.Response(201, content=body)))
    outcome = hub.approve_as("ada")
    assert outcome.receipt is not None
    (name,) = outcome.receipt.signed_by
    assert name.startswith(r"Reads digits.\x1b[9A")
    assert name.isprintable()


@pytest.mark.parametrize(
    "body", [json.dumps({"title": "No", "detail": FORGED}).encode(), FORGED.encode(), b"[]"]
)
def test_the_other_commands_show_a_hubs_refusal_in_one_line(body: bytes) -> None:
    assert str(RemoteError(_problem(httpx.Response(400, content=body)))).isprintable()


def named(name: str | None) -> Key:
    """A key as somebody hostile makes it: the name keeps no rule; without one, the id does not."""
    fields = CryptoSigner.generate_ed25519().public_key.to_dict()
    return Key.from_dict(f"{UP}{name}", fields if name is None else {**fields, NAME_FIELD: name})


@pytest.mark.parametrize("name", [f"ada{UP}\nComplete: it can be published.", "x" * 100_000, None])
def test_a_ceremony_file_shows_names_of_keys_in_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str | None
) -> None:
    """It goes from holder to holder by way of a hub, and each one reads it before signing."""
    path = tmp_path / "create.ceremony"
    honest, hostile = (
        first(
            root_keys=[key, named("ben")],
            root_threshold=1,
            online=named("online"),
            director=named("director"),
            approvers=[named("cyd"), named("dan")],
            approver_threshold=2,
            models=["digits"],
            now=utc_now(),
        )
        for key in (named("ada"), named(name))
    )
    shown = []
    for file in (honest, hostile):
        path.write_bytes(encode(file))
        assert main(["ceremony", "show", str(path)]) == 0
        shown.append(capsys.readouterr().out.splitlines())
    assert all(line.isprintable() and len(line) < 400 for line in shown[1])
    assert [line[:20] for line in shown[1]] == [line[:20] for line in shown[0]]
    assert shown[1][-1] == "Not complete yet."


def test_what_a_command_says_of_a_file_that_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"wrong{UP}\nPublished."
    path.write_text("{}")
    assert main(["bundle", "verify", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.removesuffix("\n").isprintable()
    assert "Published." in said


def test_what_a_hub_says_of_its_fleet_stays_in_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("t")
    device = {
        "id": "cam-1", "hardware_class": "any", "revoked": False, "online": True, "reported": None, "hold": {"text": FORGED},
    }  # fmt: skip
    monkeypatch.setattr(HubClient, "get", lambda *_: [device])
    assert main(["devices", "--token-file", str(tmp_path / "token")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert said[0].isprintable()
