"""``edgeward-hub samples``: ask devices for inputs that they keep, with an approver's signature, and fetch what has come."""

import argparse
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.protocol.codec import encode_json
from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, pae
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import is_name
from agent.protocol.samples import (
    MAX_SAMPLES,
    NUMPY_DTYPES,
    SampleRequest,
    SampleTensor,
    read_sample_request,
)
from agent.protocol.telemetry import Sample
from agent.protocol.words import one_line
from cloud_hub.cli.confirming import add_yes_option, confirmed
from cloud_hub.cli.http import HubClient, add_hub_options
from cloud_hub.cli.saying import say
from cloud_hub.cli.signers import add_own_key, own_public_key
from cloud_hub.errors import InputError
from cloud_hub.samples.service import OfferedRequest
from cloud_hub.signing.keys import load_public_key, load_signer

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object

INDEX = "samples.jsonl"
SECONDS_A_DAY = 86_400.0


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("samples", help="ask devices for inputs that they keep, and fetch them")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_request(actions)
    parser = actions.add_parser("list", help="requests, what devices answered, and what has come")
    parser.add_argument("id", nargs="?", metavar="ID", help="only this request")
    add_hub_options(parser)
    parser.set_defaults(run=_list)
    parser = actions.add_parser(
        "download",
        help="fetch the samples of a request; each download is written into the audit log",
        description="Fetch the samples of a request into a folder: a numpy file each (.npz), and samples.jsonl with the rest. "
        "They may show people: keep them safe, and delete them when their purpose is served.",
    )
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a folder that is new or empty"
    )
    add_hub_options(parser)
    parser.set_defaults(run=_download)
    parser = actions.add_parser("close", help="offer a request to no device any more")
    parser.add_argument("id", metavar="ID")
    add_hub_options(parser)
    parser.set_defaults(run=_close)
    parser = actions.add_parser("delete", help="close a request and delete its samples from the hub")
    parser.add_argument("id", metavar="ID")
    add_hub_options(parser)
    parser.set_defaults(run=_delete)


def _add_request(actions: Commands) -> None:
    parser = actions.add_parser(
        "request",
        help="ask devices for samples; needs the key of an approver of the model",
        description="Make a request, show it, sign it with your key on this machine, and hand it to the hub, which signs it "
        "too and offers it to the devices. A device whose owner has not set samples.may_leave refuses it.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--device", action="append", required=True, metavar="NAME", help="may be repeated")
    parser.add_argument("--releases", required=True, metavar="N[-M]", help="of these releases")
    parser.add_argument(
        "--samples",
        type=int,
        default=100,
        metavar="N",
        help="at most, from each device (default: %(default)s)",
    )
    parser.add_argument(
        "--days", type=float, default=7.0, metavar="D", help="until it expires (default: %(default)s)"
    )
    parser.add_argument(
        "--purpose", required=True, metavar="TEXT", help="what they are for; the device's owner reads it"
    )
    add_own_key(parser)
    add_hub_options(parser)
    add_yes_option(parser)
    parser.set_defaults(run=_request)


def make_request(
    *,
    model: str,
    devices: tuple[str, ...],
    releases: str,
    maximum: int,
    days: float,
    purpose: str,
    now: float,
) -> bytes:
    """The bytes to be signed; raises InputError where a value is not allowed."""
    first, _, last = releases.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise InputError(f"--releases: {releases!r} is neither a release nor a range, as in 3-5")
    for name in (model, *devices):
        if not is_name(name):
            raise InputError(f"{name!r} is not the name of a model or device")
    if not 1 <= maximum <= MAX_SAMPLES:
        raise InputError(f"--samples: {maximum}: allowed are 1-{MAX_SAMPLES}")
    payload = encode_json(
        SampleRequest(
            id=f"samples-{secrets.token_hex(8)}",
            model=model,
            devices=tuple(dict.fromkeys(devices)),
            first_release=int(first),
            last_release=int(last or first),
            maximum=maximum,
            created=now,
            expires=now + days * SECONDS_A_DAY,
            purpose=purpose,
        )
    )
    try:
        read_sample_request(payload)
    except ProtocolError as error:
        raise InputError(str(error)) from error
    return payload


def describe_request(request: SampleRequest) -> str:
    """What is signed, in words."""
    until = f"{datetime.fromtimestamp(request.expires, UTC):%Y-%m-%d %H:%M} UTC"
    return (
        f"Request {request.id}: at most {request.maximum} kept inputs of model {request.model}, releases "
        f"{request.first_release} to {request.last_release}, from each of: {', '.join(request.devices)}.\n"
        f"For: {request.purpose}\nUntil: {until}. Inputs may show people; each device's owner must have allowed it."
    )


def _request(arguments: argparse.Namespace) -> int:
    payload = make_request(
        model=arguments.model,
        devices=tuple(arguments.device),
        releases=arguments.releases,
        maximum=arguments.samples,
        days=arguments.days,
        purpose=arguments.purpose,
        now=time.time(),
    )
    say(describe_request(read_sample_request(payload)))
    if not confirmed(arguments):
        say("Nothing was signed.")
        return 1
    public = load_public_key(own_public_key(arguments))
    signature = load_signer(arguments.key, public).sign(pae(SAMPLE_REQUEST_TYPE, payload))
    offered = OfferedRequest(payload=payload, keyid=signature.keyid, sig=signature.signature)
    _print(HubClient(arguments).post("/v1/samples/requests", msgspec.to_builtins(offered)))
    return 0


def _list(arguments: argparse.Namespace) -> None:
    hub = HubClient(arguments)
    found = hub.get(
        "/v1/samples/requests" if arguments.id is None else f"/v1/samples/requests/{arguments.id}"
    )
    for request in found if isinstance(found, list) else [found]:
        _print(request)


def _close(arguments: argparse.Namespace) -> None:
    _print(HubClient(arguments).post(f"/v1/samples/requests/{arguments.id}/close"))


def _delete(arguments: argparse.Namespace) -> None:
    deleted = HubClient(arguments).delete(f"/v1/samples/requests/{arguments.id}/samples")
    say(f"{deleted['samples']} samples of {arguments.id} are deleted; copies that were downloaded are not.")


def _download(arguments: argparse.Namespace) -> None:
    hub, folder = HubClient(arguments), arguments.out
    base = f"/v1/samples/requests/{arguments.id}/samples"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty")
        with _create(folder / INDEX) as index:
            infos = hub.get(base)
            for info in infos:
                device, name = str(info["device"]), str(info["sample"])
                if not is_name(device) or not is_name(name):
                    raise InputError(f"the hub names a sample {one_line(f'{device}/{name}')}")
                sample = msgspec.convert(hub.get(f"{base}/{device}/{name}"), Sample)
                _write(folder / f"{device}.{name}.npz", sample)
                fields = msgspec.structs.asdict(sample)
                told = {key: value for key, value in fields.items() if key not in {"inputs", "outputs"}}
                index.write(msgspec.json.encode({"device": device, **told}) + b"\n")
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error
    except ValueError as error:  # msgspec's, and numpy's where a shape does not fit its data
        raise InputError(f"the hub's answer is no sample: {one_line(str(error))}") from error
    say(f"{len(infos)} samples are in {folder}, with {INDEX}. Each download is in the audit log.")


def _create(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _write(path: Path, sample: Sample) -> None:
    arrays = {f"input.{each.name}": _array(each) for each in sample.inputs}
    arrays |= {f"output.{each.name}": _array(each) for each in sample.outputs}
    with _create(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own keyword


def _array(tensor: SampleTensor) -> NDArray[np.generic]:
    return np.frombuffer(tensor.data, dtype=NUMPY_DTYPES[tensor.datatype]).reshape(tensor.shape)


def _print(request: dict[str, Any]) -> None:
    closed = ", closed" if request["closed"] is not None else ""
    until = f"{datetime.fromtimestamp(request['expires'], UTC):%Y-%m-%d %H:%M} UTC"
    say(
        f"{request['id']}: {request['model']} {request['first_release']}-{request['last_release']}, at most "
        f"{request['maximum']} a device, until {until}{closed}; signed by {request['approver']}: {request['purpose']}"
    )
    for offer in request["devices"]:
        if offer["answered"] is None:
            state = "has not answered yet"
        elif offer["accepted"]:
            state = f"{offer['text']} ({offer['arrived']} of {offer['chosen']} are here)"
        else:
            state = f"refused: {offer['text']} ({offer['code']})"
        say(f"  {offer['device']}: {state}")
