"""``edgeward-hub ceremony``: what people with offline keys do, alone or one after the other on machines of their own."""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from securesystemslib.signer import Key

from cloud_hub.cli.ceremony import begin, begin_first, hold_ceremony
from cloud_hub.cli.ceremony_files import add_file_commands, publish_and_tell, sign_with
from cloud_hub.cli.confirming import confirmed
from cloud_hub.cli.signers import IMPORTERS, add_key_options, given_signers, import_key, read_public_keys
from cloud_hub.config import Paths, load_config
from cloud_hub.durable import write_durably
from cloud_hub.errors import InputError
from cloud_hub.signing.ceremony_file import CeremonyFile, encode, examine
from cloud_hub.signing.changes import Changes
from cloud_hub.signing.errors import CeremonyError
from cloud_hub.signing.keys import create_key, load_public_key, public_path
from cloud_hub.signing.own_keys import DIRECTOR_KEY, ONLINE_KEY, OwnKeys
from cloud_hub.signing.trust_set import TrustSet
from cloud_hub.signing.words import describe, progress

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it
else:
    Commands = object

Change = Callable[[Changes, TrustSet], None]
_SIGNING = (
    "Shows what would change. With enough --key it is signed and published at once; else the file --out is written, which "
    "travels from holder to holder (edgeward-hub ceremony sign) and comes back (edgeward-hub ceremony publish)."
)


def add_commands(commands: Commands) -> None:
    group = commands.add_parser("ceremony", help="what people with offline keys do (docs/key-ceremonies.md)")
    actions = group.add_subparsers(required=True, metavar="ACTION")
    _add_key(actions)
    _add_create(actions)
    _add_people(actions)
    _add_own_keys(actions)
    _add_root(actions)
    add_file_commands(actions)


def _ceremony(
    actions: Commands, name: str, text: str, make: Callable[[argparse.Namespace], Change]
) -> argparse.ArgumentParser:
    """A ceremony that changes what is published."""
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {_SIGNING}")
    _add_run_options(parser)
    parser.set_defaults(run=lambda arguments: _begin(arguments, name, make))
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("hub.toml"), help="the hub's configuration (default: ./hub.toml)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to put a ceremony that is not complete (default: NAME.ceremony)",
    )
    add_key_options(parser)


def _begin(arguments: argparse.Namespace, kind: str, make: Callable[[argparse.Namespace], Change]) -> int:
    _config, paths = load_config(arguments.config)
    return _carry_on(arguments, paths, kind, begin(paths, make(arguments)))


def _carry_on(arguments: argparse.Namespace, paths: Paths, kind: str, file: CeremonyFile) -> int:
    """Show, sign with what is at hand, and publish, or write the file for the other holders."""
    ceremony = examine(file)
    print(describe(ceremony))
    signers = given_signers(arguments)
    if signers:
        if not confirmed(arguments):
            print("Nothing was signed.")
            return 1
        file = sign_with(file, signers)
        ceremony = examine(file)
    print(progress(ceremony))
    if ceremony.complete:
        publish_and_tell(paths, file, kind)
        return 0
    out = arguments.out or Path(f"{kind}.ceremony")
    write_durably(out, encode(file))
    print(
        f"Wrote {out}. Each holder: edgeward-hub ceremony sign {out} --key …; then, here: edgeward-hub ceremony publish {out}"
    )
    return 0


def _add_key(actions: Commands) -> None:
    parser = actions.add_parser(
        "key",
        help="make a key pair of one's own",
        description="Make NAME.pem, which stays with its holder, and NAME.pub.json, which is given to the others. A key in a "
        "PKCS#11 token, a KMS or Vault needs only the latter: import-key.",
    )
    parser.add_argument("name", metavar="NAME", help="whose it is; stands in the metadata")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the two files")
    parser.set_defaults(run=_key)
    parser = actions.add_parser(
        "import-key",
        help="write the public half of a key in a token or a cloud",
        description="Ask the token or service for the public key, write it to a file for the others, and print the URI to sign "
        "with. The securesystemslib extra for it must be installed (securesystemslib[hsm], [gcpkms], [awskms], [azurekms], [vault]).",
    )
    parser.add_argument("kind", choices=sorted(IMPORTERS), help="where the key is")
    parser.add_argument(
        "id",
        nargs="*",
        metavar="ID",
        help="as the service names it: a key id; for azurekms vault and key; for hsm none",
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="whose it is; stands in the metadata")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to put the public key")
    parser.set_defaults(
        run=lambda arguments: import_key(arguments.kind, arguments.id, arguments.name, arguments.out)
    )


def _key(arguments: argparse.Namespace) -> None:
    signer = create_key(arguments.out, arguments.name)
    print(f"{public_path(arguments.out, arguments.name)}: key id {signer.public_key.keyid}")


def _add_create(actions: Commands) -> None:
    parser = actions.add_parser(
        "create",
        help="make the trusted root and the first repository",
        description="With --keys-dir: make all keys here and publish at once (to try it out; for real use, move each key to its "
        f"holder). With --root-key and --approver-key: from public keys of people who keep their own. {_SIGNING}",
    )
    parser.add_argument(
        "--keys-dir", type=Path, metavar="DIR", help="make the people's keys here, apart from the hub"
    )
    parser.add_argument(
        "--approver", action="append", default=[], metavar="NAME", help="with --keys-dir: once for each"
    )
    _public_keys(parser, "--root-key", "public key of a root holder")
    _public_keys(parser, "--approver-key", "public key of an approver")
    parser.add_argument("--model", action="append", required=True, metavar="NAME", help="once for each model")
    parser.add_argument(
        "--root-keys", type=int, default=3, metavar="N", help="with --keys-dir: root holders (default: 3)"
    )
    parser.add_argument(
        "--threshold",
        type=int,
        default=2,
        metavar="N",
        help="signatures needed, of root and approvers (default: 2)",
    )
    parser.add_argument(
        "--approver-threshold", type=int, metavar="N", help="of approvers (default: --threshold)"
    )
    _add_run_options(parser)
    parser.set_defaults(run=_create)


def _create(arguments: argparse.Namespace) -> int:
    _config, paths = load_config(arguments.config)
    if (arguments.keys_dir is None) == (not arguments.root_key):
        raise InputError(
            "give --keys-dir and --approver (keys are made here), or --root-key and --approver-key"
        )
    if arguments.keys_dir is not None:
        root = hold_ceremony(
            paths,
            arguments.keys_dir,
            approvers=arguments.approver,
            models=arguments.model,
            root_keys=arguments.root_keys,
            threshold=arguments.threshold,
        )
        print(f"SHA-256 of root.json: {hashlib.sha256(root).hexdigest()}")
        return 0
    file = begin_first(
        paths,
        root_keys=read_public_keys(arguments.root_key),
        approvers=read_public_keys(arguments.approver_key),
        models=arguments.model,
        root_threshold=arguments.threshold,
        approver_threshold=arguments.approver_threshold or arguments.threshold,
    )
    return _carry_on(arguments, paths, "create", file)


def _public_keys(parser: argparse.ArgumentParser, option: str, what: str) -> None:
    parser.add_argument(option, action="append", default=[], type=Path, metavar="FILE", help=what)


def _add_people(actions: Commands) -> None:
    parser = _ceremony(actions, "add-model", "let a new model be released", _add_model)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--approver", action="append", default=[], metavar="NAME", help="an approver of another model"
    )
    _public_keys(parser, "--approver-key", "a new approver's public key")
    parser.add_argument(
        "--threshold", type=int, default=2, metavar="N", help="signatures needed (default: 2)"
    )
    parser = _ceremony(actions, "add-approver", "let one more person approve releases", _add_approver)
    parser.add_argument("file", type=Path, metavar="PUBLIC_KEY", help="the person's .pub.json")
    _add_models_option(parser)
    parser = _ceremony(
        actions,
        "revoke-approver",
        "take a person's right to approve; the others sign first what would not hold without",
        _revoke_approver,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--replacement", type=Path, metavar="FILE", help="public key of who takes the place")
    _add_models_option(parser)
    parser = _ceremony(
        actions, "approver-threshold", "change how many approvers must sign a release", _approver_threshold
    )
    parser.add_argument("threshold", type=int, metavar="N")
    _add_models_option(parser)


def _add_models_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="only of this one; may be repeated (default: of all)",
    )


def _add_model(arguments: argparse.Namespace) -> Change:
    def change(changes: Changes, published: TrustSet) -> None:
        known = {name: key for model in published.models for name, key in _by_name(published, model).items()}
        unknown = [name for name in arguments.approver if name not in known]
        if unknown:
            raise CeremonyError(
                f"{', '.join(unknown)}: no approver of another model; give the public key: --approver-key FILE"
            )
        keys = [known[name] for name in arguments.approver] + read_public_keys(arguments.approver_key)
        changes.add_model(arguments.model, keys, arguments.threshold)

    return change


def _by_name(published: TrustSet, model: str) -> dict[str, Key]:
    holders = published.holders(model)
    return dict(zip(holders.names, holders.keys.values(), strict=True))


def _add_approver(arguments: argparse.Namespace) -> Change:
    (key,) = read_public_keys([arguments.file])
    return lambda changes, _published: changes.add_approver(key, arguments.model)


def _revoke_approver(arguments: argparse.Namespace) -> Change:
    def change(changes: Changes, published: TrustSet) -> None:
        if arguments.replacement is not None:
            (key,) = read_public_keys([arguments.replacement])
            where = [model for model in published.models if arguments.name in published.holders(model).names]
            changes.add_approver(key, arguments.model or where)
        changes.revoke_approver(arguments.name, arguments.model)

    return change


def _approver_threshold(arguments: argparse.Namespace) -> Change:
    return lambda changes, _published: changes.set_approver_threshold(arguments.threshold, arguments.model)


def _add_own_keys(actions: Commands) -> None:
    for name, text, kinds in (
        ("rotate-online", "give the hub a new online key, which signs snapshot and timestamp", (ONLINE_KEY,)),
        ("rotate-director", "give the hub a new director's key, which signs what each device is to run", (DIRECTOR_KEY,)),
        ("recover-online", "after a theft: give the hub new online and director's keys; the stolen ones are worth nothing then", (ONLINE_KEY, DIRECTOR_KEY)),
    ):  # fmt: skip
        parser = _ceremony(actions, name, text, lambda arguments, kinds=kinds: _own_keys(arguments, kinds))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        for kind in kinds:
            parser.add_argument(
                f"--{kind}-uri", metavar="URI", help=f"{kind} key in a token or a cloud (default: a new file)"
            )
            parser.add_argument(f"--{kind}-public-key", type=Path, metavar="FILE", help="its public half")


def _own_keys(arguments: argparse.Namespace, kinds: tuple[str, ...]) -> Change:
    _config, paths = load_config(arguments.config)
    keys = OwnKeys(paths.online_keys)

    def change(changes: Changes, _published: TrustSet) -> None:
        for kind in kinds:
            uri, public = getattr(arguments, f"{kind}_uri"), getattr(arguments, f"{kind}_public_key")
            if (uri is None) != (public is None):
                raise InputError(f"--{kind}-uri and --{kind}-public-key: give both or none")
            key = keys.make(kind) if uri is None else keys.adopt(kind, uri, load_public_key(public))
            (changes.rotate_online if kind == ONLINE_KEY else changes.rotate_director)(key)

    return change


def _add_root(actions: Commands) -> None:
    parser = _ceremony(actions, "root-keys", "change who holds the root, or how many must sign", _root_keys)
    parser.add_argument(
        "--add", action="append", default=[], type=Path, metavar="FILE", help="public key of a new holder"
    )
    parser.add_argument("--remove", action="append", default=[], metavar="NAME", help="a holder who goes")
    parser.add_argument("--threshold", type=int, metavar="N", help="signatures needed from now on")
    parser = _ceremony(actions, "renew", "sign roles anew, unchanged, before they expire", _renew)
    parser.add_argument(
        "--role",
        action="append",
        metavar="ROLE",
        help="root, targets or a model; may be repeated (default: root and targets)",
    )


def _root_keys(arguments: argparse.Namespace) -> Change:
    if not arguments.add and not arguments.remove and arguments.threshold is None:
        raise InputError("nothing to change: give --add, --remove or --threshold")
    keys = read_public_keys(arguments.add)
    return lambda changes, _published: changes.change_root(
        add=keys, remove=arguments.remove, threshold=arguments.threshold
    )


def _renew(arguments: argparse.Namespace) -> Change:
    return lambda changes, _published: changes.renew(arguments.role or ["root", "targets"])
