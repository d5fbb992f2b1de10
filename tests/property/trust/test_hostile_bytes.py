"""Whatever bytes the hub, the line or the disk make of the metadata: a reason comes back, or exactly what was approved."""

import json
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.verification import FetchedMetadata, FetchMetadata, Mark, VerifyRequest, VerifyResult
from agent.trust.verify import verify
from tests.fault.trust.hub_simulator import DEVICE, HubSimulator

SERVED = ("timestamp.json", "3.snapshot.json", "1.targets.json", "3.digits.json", "2.root.json")
STORED = ("timestamp.json", "snapshot.json", "targets.json", "digits.json", "director.json")

damage = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10_000), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 10_000), st.just(0)),
    st.tuples(st.just("repeat"), st.integers(0, 10_000), st.just(0)),
    st.tuples(st.just("digit"), st.integers(0, 10_000), st.integers(0, 9)),
)
Damage = tuple[str, int, int]


class World:
    """A hub with two releases, the state of a device that saw the first only, and its next director's document."""

    def __init__(self) -> None:
        self.hub = HubSimulator()
        self.hub.approve("digits", 1)
        first = self.check({}, self.hub.direct(1), (), {})
        self.marks, self.stored = first.marks, first.metadata
        self.hub.approve("digits", 2)
        self.director = self.hub.direct(2)
        self.honest = self.check(self.stored, self.director, self.marks, {})
        assert [taken.release for taken in self.honest.assignments] == [2]

    def check(
        self, stored: dict[str, bytes], director: bytes, marks: tuple[Mark, ...], served: dict[str, bytes]
    ) -> VerifyResult:
        request = VerifyRequest(
            device=DEVICE,
            root=self.hub.store.files["1.root.json"],
            metadata=stored,
            marks=marks,
            now=self.hub.now.timestamp(),
            director=director,
        )

        def fetch(name: str, maximum: int) -> FetchedMetadata:
            if name in served:
                return FetchedMetadata(data=served[name])
            answer = self.hub.answer(FetchMetadata(name=name, maximum_bytes=maximum))
            assert isinstance(answer, FetchedMetadata)
            return answer

        return verify(request, fetch)


@cache
def world() -> World:
    return World()


def damaged(data: bytes, how: Damage) -> bytes:
    kind, where, value = how
    at = where % max(len(data), 1)
    if kind == "cut":
        return data[:at]
    if kind == "repeat":
        return data[:at] + data[at:] * 2
    if kind == "digit":
        digits = [index for index, byte in enumerate(data) if chr(byte).isdigit()]
        if not digits:
            return data
        at = digits[where % len(digits)]
        return data[:at] + str(value).encode() + data[at + 1 :]
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :] if data else b"x"


def takes_what_was_approved_or_nothing(result: VerifyResult) -> None:
    assert result.assignments in ((), world().honest.assignments)
    if not result.assignments:
        assert result.refusal is not None or result.refused


def marks_do_not_fall(result: VerifyResult) -> None:
    after = {(mark.role, mark.keys): mark.version for mark in result.marks}
    assert all(after[mark.role, mark.keys] >= mark.version for mark in world().marks)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SERVED), damage)
def test_damage_on_the_line(name: str, how: Damage) -> None:
    here = world()
    result = here.check(
        here.stored, here.director, here.marks, {name: damaged(here.hub.store.files.get(name, b"{}"), how)}
    )
    takes_what_was_approved_or_nothing(result)
    marks_do_not_fall(result)


@settings(max_examples=150, deadline=None)
@given(damage)
def test_damage_to_the_directors_document(how: Damage) -> None:
    here = world()
    result = here.check(here.stored, damaged(here.director, how), here.marks, {})
    takes_what_was_approved_or_nothing(result)
    marks_do_not_fall(result)


def test_a_damaged_stored_document_does_not_accuse_an_honest_hub() -> None:
    here = world()
    stored = json.loads(here.stored["director.json"])
    stored["signed"]["version"] = json.loads(here.director)["signed"]["version"]
    result = here.check(
        {**here.stored, "director.json": json.dumps(stored).encode()}, here.director, here.marks, {}
    )
    assert result.refusal is None
    assert result.assignments == here.honest.assignments


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(STORED), damage, min_size=1))
def test_damage_on_the_disk_is_healed_by_an_honest_hub(how: dict[str, Damage]) -> None:
    here = world()
    stored = {name: damaged(data, how[name]) if name in how else data for name, data in here.stored.items()}
    result = here.check(stored, here.director, here.marks, {})
    assert result.refusal is None
    assert result.assignments == here.honest.assignments
