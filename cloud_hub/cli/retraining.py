"""``edgeward-hub retraining``, ``notices`` and ``webhooks``."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_hub.cli.http import HubClient, add_hub_options
from cloud_hub.cli.saying import say
from cloud_hub.durable import write_durably
from cloud_hub.errors import InputError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object

POLICY = {
    "level": (str, "warning|drift", "a device at this level, or over it, is affected"),
    "share": (float, "SHARE", "of the devices with a verdict, over 0 to 1, that must be affected"),
    "devices": (int, "N", "and so many at least"),
    "hours": (float, "HOURS", "and for so long"),
    "accuracy_loss": (float, "LOSS", "or: estimated accuracy so far under the release's evaluation, 0 to 1"),
    "calm_hours": (float, "HOURS", "a request ends by itself after so long without"),
}


def add_commands(commands: Commands) -> None:
    _add_retraining(commands)
    parser = commands.add_parser(
        "notices", help="what should be looked at: silent devices, lost telemetry, …"
    )
    parser.add_argument("--ended", action="store_true", help="also those that are over")
    _finish(parser, _notices)
    parser = commands.add_parser("webhooks", help="what was told to other systems, or waits to be")
    _finish(parser, _webhooks)


def _add_retraining(commands: Commands) -> None:
    group = commands.add_parser("retraining", help="requests to retrain a model, made by drift")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser("list", help="list requests, those that are not closed first")
    _finish(parser, _list)
    parser = actions.add_parser("show", help="show a request, or write its evidence to a file")
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument(
        "--evidence", type=Path, metavar="FILE", help="write the newest evidence here, as it was frozen"
    )
    parser.add_argument("--number", type=int, metavar="N", help="this evidence instead of the newest")
    _finish(parser, _show)
    parser = actions.add_parser("acknowledge", help="say that somebody has taken a request up")
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument("--note", metavar="TEXT", help="a ticket, a name")
    _finish(parser, _acknowledge)
    parser = actions.add_parser("close", help="end a request by hand")
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument("--reason", required=True, metavar="TEXT")
    _finish(parser, _close)
    parser = actions.add_parser(
        "policy",
        help="show a model's policy, or give it one of its own",
        description="Without options: show it. With any of them: it becomes the model's own, with what it was before for the rest.",
    )
    parser.add_argument("model", metavar="MODEL")
    for name, (kind, metavar, text) in POLICY.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--signal", action="append", metavar="NAME", help="only where this signal moved; may be repeated"
    )
    parser.add_argument("--off", action="store_true", help="make no request for this model")
    parser.add_argument("--default", action="store_true", help="let the policy of hub.toml hold again")
    _finish(parser, _policy)


def _finish(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.add_argument("--json", action="store_true", help="the hub's answer as it is")
    add_hub_options(parser)
    parser.set_defaults(run=run)


def _list(arguments: argparse.Namespace) -> None:
    found = HubClient(arguments).get("/v1/retraining")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for request in found:
        _say_request(request)
    if not found:
        say("There are no requests.")


def _show(arguments: argparse.Namespace) -> None:
    hub = HubClient(arguments)
    request = hub.get(f"/v1/retraining/{arguments.id}")
    if arguments.evidence is not None:
        number = arguments.number or request["evidence"][-1]["number"]
        write_durably(arguments.evidence, hub.get_bytes(f"/v1/retraining/{arguments.id}/evidence/{number}"))
        digest = next((each["sha256"] for each in request["evidence"] if each["number"] == number), "")
        say(f"Wrote {arguments.evidence}, evidence {number}; SHA-256 {digest}, as in the audit log")
        return
    if arguments.json:
        print(json.dumps(request, indent=2))
        return
    _say_request(request)
    for evidence in request["evidence"]:
        say(f"  evidence {evidence['number']} of {_time(evidence['made'])}: SHA-256 {evidence['sha256']}")


def _acknowledge(arguments: argparse.Namespace) -> None:
    _say_request(
        HubClient(arguments).post(f"/v1/retraining/{arguments.id}/acknowledge", {"note": arguments.note})
    )


def _close(arguments: argparse.Namespace) -> None:
    _say_request(
        HubClient(arguments).post(f"/v1/retraining/{arguments.id}/close", {"reason": arguments.reason})
    )


def _say_request(request: dict[str, Any]) -> None:
    state = request["state"]
    if state == "acknowledged":
        state += f" by {request['acknowledged_by']}" + (f" ({request['note']})" if request["note"] else "")
    if state == "closed":
        state += f" by {request['closed_by']}: {request['closed_reason']}"
    say(
        f"request {request['id']}: {request['model']} {request['release']}, {request['cause']}, since "
        f"{_time(request['opened'])}: {request['text']}; {state}"
    )


def _policy(arguments: argparse.Namespace) -> None:
    hub, path = HubClient(arguments), f"/v1/retraining/policies/{arguments.model}"
    changes = {name: value for name in POLICY if (value := getattr(arguments, name)) is not None}
    if arguments.signal:
        changes["signals"] = arguments.signal
    if arguments.off:
        changes["enabled"] = False
    if arguments.default and changes:
        raise InputError("--default: it takes no other option")
    if arguments.default:
        found = hub.delete(path)
    elif changes:
        before = hub.get(path)["policy"]
        found = hub.put_json(path, {**before, "enabled": True, **changes})
    else:
        found = hub.get(path)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    whose = "of hub.toml" if found["set_by"] is None else f"its own, set by {found['set_by']}"
    say(f"{found['model']} has the policy {whose}:")
    for name, value in found["policy"].items():
        say(f"  {name} = {json.dumps(value)}")


def _notices(arguments: argparse.Namespace) -> None:
    found = HubClient(arguments).get("/v1/notices" + ("?ended=true" if arguments.ended else ""))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for notice in found:
        over = f"; over since {_time(notice['ended'])}" if notice["ended"] else ""
        say(f"{notice['severity']}: {notice['text']} Since {_time(notice['since'])}{over}. {notice['to_do']}")
    if not found:
        say("There are no notices.")


def _webhooks(arguments: argparse.Namespace) -> None:
    found = HubClient(arguments).get("/v1/webhooks")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for each in found:
        why = f": {each['error']}" if each["error"] else ""
        say(
            f"{each['id']} {each['event']} to {each['url']}: {each['outcome']}, {each['attempts']} attempts{why}"
        )
    if not found:
        say("Nothing was told. Addresses stand in [webhooks] of hub.toml.")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
