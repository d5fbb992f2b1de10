"""A hub whose ceremonies are watched: after each single file, devices of two kinds look whether everything verifies."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, Signer

from agent.protocol.verification import FetchedMetadata, Mark
from agent.trust.errors import TrustError
from agent.trust.fetcher import Fetch
from agent.trust.marks import MarkBook
from agent.trust.repository import TrustedRepository
from cloud_hub.signing.ceremony_file import Ceremony, CeremonyFile, decode, encode, examine, sign
from cloud_hub.signing.changes import Changes
from cloud_hub.signing.documents import DIRECTOR
from cloud_hub.signing.keys import named_key
from cloud_hub.signing.publication import publish, published_roots, published_set
from tests.fault.trust.hub_simulator import HubSimulator, MemoryStore

Change = Callable[[Changes], None]


class WatchedStore(MemoryStore):
    """After each single file that is written, somebody looks."""

    def __init__(self, files: dict[str, bytes], look: Callable[[str], None]) -> None:
        super().__init__(files)
        self._look = look

    def put_all(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.files[name] = data
            self._look(name)


class Ceremonial(HubSimulator):
    """The simulator's hub with ceremonies as people hold them, and devices that watch every step."""

    def __init__(self) -> None:
        super().__init__(models=("digits", "faces"))
        self.signers: dict[str, CryptoSigner] = {
            signer.public_key.keyid: signer
            for signer in (
                *self.keys.offline,
                *self.keys.approvers.values(),
                self.keys.online,
                self.keys.director,
            )
        }
        self.approve("digits", 1)
        self.root = self.store.files["1.root.json"]
        self.follower = Follower(self.root)
        self.looks = 0
        self.broken: list[str] = []

    def newcomer(self, name: str) -> Key:
        signer = CryptoSigner.generate_ed25519()
        key = named_key(signer.public_key, name)
        self.signers[key.keyid] = signer
        return key

    def begin(self, *changes: Change) -> CeremonyFile:
        """The file, having travelled as bytes."""
        under_way = Changes(published_set(self.store), self.now)
        for change in changes:
            change(under_way)
        return decode(encode(under_way.finish(published_roots(self.store))))

    def examined(self, file: CeremonyFile) -> Ceremony:
        return examine(file, self.now)

    def everybody(self, file: CeremonyFile) -> CeremonyFile:
        """The fewest signatures: of each document's holders, the last ones."""
        while missing := [duty for duty in self.examined(file).duties if duty.missing]:
            keyid = [each for each in missing[0].holders.keys if each not in missing[0].signed][-1]
            file = sign(self.examined(file), self.signers[keyid])
        return file

    def find(self, keyids: Collection[str]) -> Signer | None:
        return next((self.signers[keyid] for keyid in keyids if keyid in self.signers), None)

    def hold(self, *changes: Change, watched: bool = True) -> Ceremony:
        ceremony = self.examined(self.everybody(self.begin(*changes)))
        if watched:
            self.store = WatchedStore(self.store.files, self.look)
        publish(self.store, ceremony, self.find, self.now)
        self.adopt(ceremony)
        return ceremony

    def adopt(self, ceremony: Ceremony) -> None:
        (online,) = ceremony.after.online.keys
        (director,) = ceremony.after.director.keys
        self.keys.online, self.keys.director = self.signers[online], self.signers[director]
        self.store = MemoryStore(self.store.files)
        self.use_online_key()

    def look(self, name: str) -> None:
        """One device that is new, and one that was here all along: both must find a repository that verifies."""
        self.looks += 1
        for who, device in (("new", Follower(self.root)), ("old", self.follower)):
            try:
                device.look(self)
            except TrustError as error:
                self.broken.append(f"{who} device after {name}: {error}")


class Follower:
    """A device's verifier in this process, which takes milliseconds: it asks for every role that there is."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.stored: dict[str, bytes] = {}
        self.marks: tuple[Mark, ...] = ()

    def look(self, hub: HubSimulator) -> set[str]:
        """Models whose role verified; raises TrustError."""
        book = MarkBook(self.marks)
        with tempfile.TemporaryDirectory() as folder:
            repository = TrustedRepository(
                folder=Path(folder),
                root=self.root,
                stored=self.stored,
                fetch=_asking(hub),
                now=hub.now,
                marks=book,
            )
            repository.refresh()
            delegations = repository.targets.delegations
            assert delegations is not None
            assert delegations.roles is not None
            models = set(delegations.roles) - {DIRECTOR}
            for model in models:
                repository.model_role(model, f"models/{model}/1/manifest.json")
            self.stored |= repository.changed_files()
        self.marks = book.marks()
        return models


def _asking(hub: HubSimulator) -> Fetch:
    def fetch(name: str, _limit: int) -> FetchedMetadata:
        return FetchedMetadata(data=hub.store.get(name))

    return fetch


def first_holder(hub: Ceremonial) -> str:
    return published_set(hub.store).root_holders.names[0]
