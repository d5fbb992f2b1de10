from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.protocol.verification import Mark, VerifyResult
from agent.store.errors import DamagedError, NotInitialisedError, StoreError
from agent.store.trust_db import TrustDatabase, TrustState


def mark(role: str, version: int, keys: str = "k1") -> Mark:
    return Mark(role=role, keys=keys, version=version)


RESULT = VerifyResult(
    metadata={"root.json": b"root 2", "timestamp.json": b"ts 9"},
    marks=(mark("timestamp", 9), mark("snapshot", 4)),
    hub_time=1_000.5,
)


@pytest.fixture
def trust(tmp_path: Path) -> Iterator[TrustDatabase]:
    database = TrustDatabase(tmp_path / "trust.db")
    database.initialise(b"root 1", [mark("snapshot", 5), mark("digits", 2)])
    yield database
    database.close()


def test_before_enrolment_nothing_is_trusted(tmp_path: Path) -> None:
    trust = TrustDatabase(tmp_path / "trust.db")
    with pytest.raises(NotInitialisedError, match="enrol"):
        trust.load()
    with pytest.raises(NotInitialisedError):
        trust.apply(RESULT)
    trust.close()


def test_enrolled_it_has_root_and_minimum(trust: TrustDatabase) -> None:
    assert trust.load() == TrustState(
        root=b"root 1", metadata={}, marks=(mark("digits", 2), mark("snapshot", 5)), hub_time=0.0
    )


def test_a_result_is_kept_over_a_restart(trust: TrustDatabase, tmp_path: Path) -> None:
    assert trust.apply(RESULT)
    assert not trust.apply(RESULT)
    trust.close()
    again = TrustDatabase(tmp_path / "trust.db")
    state = again.load()
    again.close()
    assert state.root == b"root 1"
    assert state.metadata == RESULT.metadata
    assert state.hub_time == 1_000.5


def test_marks_and_time_never_fall(trust: TrustDatabase) -> None:
    trust.apply(RESULT)
    trust.apply(VerifyResult(marks=(mark("timestamp", 3), mark("timestamp", 1, keys="k2")), hub_time=10.0))
    state = trust.load()
    assert state.hub_time == 1_000.5
    assert state.marks == (
        mark("digits", 2),
        mark("snapshot", 5),  # the result's 4 was under the minimum of enrolment
        mark("timestamp", 9),
        mark("timestamp", 1, keys="k2"),  # other keys start their own mark
    )


def test_another_root_is_refused_the_same_is_not(trust: TrustDatabase) -> None:
    trust.initialise(b"root 1")
    with pytest.raises(StoreError, match="another root of trust"):
        trust.initialise(b"root 666")
    assert trust.load().root == b"root 1"


def test_both_files_emptied_is_no_fresh_start(trust: TrustDatabase, tmp_path: Path) -> None:
    trust.close()
    (tmp_path / "trust.db").write_bytes(b"")
    (tmp_path / "trust.db.mirror").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"trust\.db"):
        TrustDatabase(tmp_path / "trust.db")
