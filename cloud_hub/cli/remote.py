"""Commands that speak with a running hub."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.protocol.errors import ProtocolError
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import decode_manifest
from agent.protocol.progress import fetching
from agent.protocol.state import TransferProgress
from cloud_hub.cli.http import HubClient, add_hub_options
from cloud_hub.cli.saying import say
from cloud_hub.durable import write_durably
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object


def add_commands(commands: Commands) -> None:
    _add_release(commands)
    _add_rollout(commands)
    _add_devices(commands)
    _add_enrol_token(commands)


def _add_release(commands: Commands) -> None:
    group = commands.add_parser("release", help="upload releases for approval, or take one back")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser(
        "submit",
        help="upload a release folder and submit it",
        description="Upload every file that the folder's manifest.json names, the manifest last, and submit the release.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a release folder with a manifest.json")
    parser.add_argument(
        "--model-signature",
        type=Path,
        metavar="FILE",
        help="OpenSSF model signature of the folder, as model_signing makes it; the hub checks it",
    )
    add_hub_options(parser)
    parser.set_defaults(run=_submit)
    parser = actions.add_parser(
        "withdraw",
        help="take a release back",
        description="Take back a draft of your own; of a published release, ask the approvers to sign that it goes "
        "(edgeward-hub approve MODEL RELEASE --withdraw).",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("release", type=int, metavar="RELEASE")
    add_hub_options(parser)
    parser.set_defaults(run=_withdraw)


def _withdraw(arguments: argparse.Namespace) -> None:
    model, number = arguments.model, arguments.release
    release = HubClient(arguments).post(f"/v1/releases/{model}/{number}/withdraw")
    if release["state"] == "withdrawn":
        say(f"{model} {number} is withdrawn.")
        return
    say(
        f"{model} {number} is still {release['state']}: it goes when enough approvers have signed. "
        f"Each: edgeward-hub approve {model} {number} --withdraw …"
    )


def _submit(arguments: argparse.Namespace) -> None:
    path = arguments.folder / MANIFEST_FILENAME
    try:
        payload = path.read_bytes()
        manifest = decode_manifest(payload)
        files = {
            artifact.filename: (arguments.folder / artifact.filename).read_bytes()
            for artifact in manifest.artifacts()
        }
        signature = arguments.model_signature and arguments.model_signature.read_bytes()
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    except ProtocolError as error:
        raise InputError(f"{path}: {error}") from error
    hub = HubClient(arguments)
    base = f"/v1/releases/{manifest.model}/{manifest.release}"
    for filename, data in {**files, MANIFEST_FILENAME: payload}.items():
        hub.put(f"{base}/files/{filename}", data)
        say(f"uploaded {filename} ({len(data)} bytes)")
    if signature is not None:
        hub.put(f"{base}/model-signature", signature)
    release = hub.post(f"{base}/submit")
    if release["model_signer"] is not None:
        say(f"the files are as they were signed with {release['model_signer']}")
    say(f"{manifest.model} {manifest.release} is {release['state']}; it waits for its approvers' signatures")


def _add_rollout(commands: Commands) -> None:
    group = commands.add_parser("rollout", help="bring a release to the fleet, in stages")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser("start", help="start a rollout of a published release")
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("release", type=int, metavar="RELEASE")
    parser.add_argument(
        "--stages",
        default="100%",
        help="comma-separated: a number of devices, or a share of the fleet, as in 1,50%%,100%% (default: 100%%)",
    )
    parser.add_argument("--allowed-failures", type=int, default=0, help="devices that may fail (default: 0)")
    parser.add_argument(
        "--stage-timeout", type=float, metavar="SECONDS", help="pause a stage that takes longer"
    )
    parser.add_argument("--device", action="append", metavar="NAME", help="only these devices, in this order")
    _add_shadow(parser)
    add_hub_options(parser)
    parser.set_defaults(run=_rollout_start)
    parser = actions.add_parser("show", help="show a rollout, or all of them")
    parser.add_argument("id", type=int, nargs="?", metavar="ID")
    parser.add_argument("--json", action="store_true", help="the hub's answer as it is")
    add_hub_options(parser)
    parser.set_defaults(run=_rollout_show)
    for action, text in (
        ("pause", "assign nothing more until it is resumed"),
        ("resume", "go on, accepting the failures so far"),
        ("abort", "end it; devices keep what they have"),
        ("rollback", "give every device back what it had committed before"),
    ):
        parser = actions.add_parser(action, help=text)
        parser.add_argument("id", type=int, metavar="ID")
        add_hub_options(parser)
        parser.set_defaults(run=_rollout_steer, action=action)


def _add_shadow(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "shadow mode",
        "Before the release may serve, each device feeds it copies of its live requests and compares the answers"
        " (docs/shadow.md). Any of these asks for it.",
    )
    group.add_argument("--shadow", action="store_true", help="with the defaults")
    group.add_argument(
        "--shadow-share", type=float, metavar="SHARE", help="of the requests, over 0 to 1 (default: 1)"
    )
    group.add_argument("--shadow-requests", type=int, metavar="N", help="end after this many (default: 200)")
    group.add_argument(
        "--shadow-seconds", type=float, metavar="SECONDS", help="end after this time (default: 600)"
    )
    group.add_argument(
        "--shadow-maximum-disagreement",
        type=float,
        metavar="SHARE",
        help="of rows; over it the device refuses the release (default: only report)",
    )
    group.add_argument(
        "--shadow-tolerance",
        type=float,
        metavar="DIFFERENCE",
        help="compare every value instead of the class",
    )


def _shadow(arguments: argparse.Namespace) -> dict[str, Any] | None:
    given = {
        name: value
        for name in ("share", "requests", "seconds", "maximum_disagreement", "tolerance")
        if (value := getattr(arguments, f"shadow_{name}")) is not None
    }
    return given if given or arguments.shadow else None


def _rollout_start(arguments: argparse.Namespace) -> None:
    body = {
        "model": arguments.model,
        "release": arguments.release,
        "stages": [_stage(text.strip()) for text in arguments.stages.split(",")],
        "allowed_failures": arguments.allowed_failures,
        "stage_timeout_seconds": arguments.stage_timeout,
        "devices": arguments.device,
        "shadow": _shadow(arguments),
    }
    _print_rollout(HubClient(arguments).post("/v1/rollouts", body))


def _stage(text: str) -> dict[str, int]:
    number = text.removesuffix("%")
    if not number.isdigit():
        raise InputError(f"--stages: {text!r} is neither a number of devices nor a percentage")
    return {"percent" if text.endswith("%") else "count": int(number)}


def _rollout_show(arguments: argparse.Namespace) -> None:
    hub = HubClient(arguments)
    path = "/v1/rollouts" if arguments.id is None else f"/v1/rollouts/{arguments.id}"
    found = hub.get(path)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for rollout in found if isinstance(found, list) else [found]:
        _print_rollout(rollout)


def _rollout_steer(arguments: argparse.Namespace) -> None:
    _print_rollout(HubClient(arguments).post(f"/v1/rollouts/{arguments.id}/{arguments.action}"))


def _print_rollout(rollout: dict[str, Any]) -> None:
    state = rollout["state"]
    say(
        f"rollout {rollout['id']}: {rollout['model']} {rollout['release']} is {state['status']}"
        f", stage {state['stage'] + 1} of {state['stages']}"
        + (f": {state['reason']}" if state["reason"] else "")
    )
    for device in state["devices"]:
        outcome = device["outcome"] or ("assigned" if device["assigned"] else "waits for its stage")
        why = device["reason"] or rollout["waiting"].get(device["device"])
        say(f"  {device['device']}: {outcome}" + (f" ({why})" if why else ""))


def _add_devices(commands: Commands) -> None:
    parser = commands.add_parser(
        "devices",
        help="list devices and what they serve, hold, resume or revoke one",
        description="list: every device and what it serves. hold: it keeps what it runs, whatever rollouts assign, until resume "
        "(docs/updates.md). revoke: take a device's identity; the hub hears and serves it no more "
        "at once, and the broker refuses it with the new list (--crl, then reload the broker; docs/key-ceremonies.md).",
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "hold", "resume", "revoke"),
        default="list",
        metavar="list|hold|resume|revoke",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the device to hold, resume or revoke")
    parser.add_argument("--reason", metavar="TEXT", help="why it is held or revoked; for the audit log")
    parser.add_argument(
        "--crl", type=Path, metavar="FILE", help="write the list of revoked certificates here, for the broker"
    )
    parser.add_argument("--json", action="store_true", help="the hub's answer as it is")
    add_hub_options(parser)
    parser.set_defaults(run=_devices)


def _devices(arguments: argparse.Namespace) -> None:
    hub = HubClient(arguments)
    if arguments.action in ("hold", "resume"):
        _hold_or_resume(hub, arguments)
        return
    if arguments.action == "revoke":
        _revoke(hub, arguments)
    if arguments.crl is not None:
        write_durably(arguments.crl, hub.get_bytes("/v1/devices/revocations"))
        say(f"Wrote {arguments.crl}; have the broker read it: systemctl reload mosquitto")
    if arguments.action == "revoke":
        return
    found = hub.get("/v1/devices")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for device in found:
        reported = device["reported"] or {"serving": []}
        serving = (
            ", ".join(f"{item['model']} {item['release']}" for item in reported["serving"]) or "nothing yet"
        )
        state = "revoked" if device["revoked"] else "online" if device["online"] else "offline"
        held = f"; {device['hold']['text']}" if device["hold"] else ""
        say(f"{device['id']} ({device['hardware_class']}): {state}, {serving}{_under_way(reported)}{held}")


def _under_way(reported: dict[str, Any]) -> str:
    """Updates whose bytes are on their way, as far as the device has said."""
    return "".join(
        f"; {each['model']} {each['release']}: {fetching(msgspec.convert(each['progress'], TransferProgress))}"
        for each in reported.get("deployments", ())
        if each.get("progress")
    )


def _hold_or_resume(hub: HubClient, arguments: argparse.Namespace) -> None:
    action, name = arguments.action, arguments.name
    if name is None:
        raise InputError(f"name the device to {action}: edgeward-hub devices {action} NAME")
    if action == "resume" and arguments.reason is not None:
        raise InputError("--reason: resume takes none")
    body = {"reason": arguments.reason} if action == "hold" else None
    say(f"{hub.post(f'/v1/devices/{name}/{action}', body)['text']}.")


def _revoke(hub: HubClient, arguments: argparse.Namespace) -> None:
    if arguments.name is None or not arguments.reason:
        raise InputError("name the device to revoke, and say why: --reason TEXT")
    hub.post(f"/v1/devices/{arguments.name}/revoke", {"reason": arguments.reason})
    say(f"{arguments.name} is revoked. The hub hears it no more, signs nothing for it and gives it no file.")
    if arguments.crl is None:
        say("The broker still lets it in: edgeward-hub devices --crl FILE, then reload the broker.")


def _add_enrol_token(commands: Commands) -> None:
    parser = commands.add_parser("enrol-token", help="make a single-use token that enrols a device")
    parser.add_argument("--device", metavar="NAME", help="only this device may use it")
    parser.add_argument(
        "--lifetime", type=float, default=3600.0, metavar="SECONDS", help="default: %(default)s"
    )
    add_hub_options(parser)
    parser.set_defaults(run=_enrol_token)


def _enrol_token(arguments: argparse.Namespace) -> None:
    body = {"device": arguments.device, "lifetime_seconds": arguments.lifetime}
    token = HubClient(arguments).post("/v1/enrolment-tokens", body)
    say(token["token"])
