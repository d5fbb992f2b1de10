"""Predictions and the labels that join them: each label has one clear answer, counts once, and moves exactly its own day."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from agent.protocol.labels import Label, LabelOrigin, LabelOutcome, LabelReceipt, Prediction
from agent.store.database import Database
from agent.store.labelling import DAY
from agent.store.predictions import FigureKey, PredictionBounds, PredictionStore

NOW = 20_000 * DAY + 100.0
BOUNDS = PredictionBounds(rows=1_000, bytes=1 << 20, seconds=30 * DAY)
RELEASE = ("digits", 3)


def said(
    request: str,
    label: str = "3",
    *,
    time: float = NOW,
    part: str | None = None,
    expected: float | None = 0.9,
) -> tuple[tuple[str, int], Prediction]:
    return RELEASE, Prediction(request, time, part, label, 0.75, expected)


def label(request: str, text: str = "3", origin: LabelOrigin = "person", time: float | None = None) -> Label:
    return Label(request=request, label=text, origin=origin, time=time)


@pytest.fixture
async def store(database: Database) -> PredictionStore:
    store = PredictionStore(database, BOUNDS)
    await store.append(
        [said("r-1"), said("r-2", "4"), said("r-3", part="camera=left"), said("r-4")],
        {RELEASE: [str(digit) for digit in range(10)]},
        skipped=0,
        now=NOW,
    )
    return store


async def outcomes(store: PredictionStore, *labels: Label, model: str = "digits") -> list[LabelOutcome]:
    return [answer.outcome for answer in await store.join(model, labels, NOW + 10)]


async def totals(
    store: PredictionStore, origin: LabelOrigin = "person", part: str | None = None
) -> tuple[int, int]:
    figure = (await store.figures()).get(FigureKey("digits", 3, part, origin))
    return (0, 0) if figure is None else (figure.correct, figure.rows)


async def test_labels_join_by_request_and_count_once(store: PredictionStore) -> None:
    first = [label("r-1"), label("r-2"), label("r-3")]
    assert await outcomes(store, *first) == ["joined"] * 3
    assert await totals(store) == (2, 3)
    assert await totals(store, part="camera=left") == (1, 1)
    assert await outcomes(store, *first, label("r-1")) == ["repeated"] * 4
    assert await totals(store) == (2, 3)
    figure = (await store.figures())[FigureKey("digits", 3, None, "person")]
    assert figure.expected_rows == 3
    assert figure.expected_correct == pytest.approx(2.7)
    assert (figure.opened, figure.closed) == (20_000 * DAY, 20_001 * DAY)


async def test_a_corrected_label_corrects(store: PredictionStore) -> None:
    assert await outcomes(store, label("r-1", "3"), label("r-1", "5"), label("r-1", "3")) == [
        "joined",
        "corrected",
        "corrected",
    ]
    assert await totals(store) == (1, 1)
    (answer,) = await store.join("digits", [label("r-1", "5")], NOW + 20)
    assert answer.text == "release 3 said 3; it was labelled 3 before"
    assert await totals(store) == (0, 1)


async def test_of_two_labels_the_later_one_counts_in_whatever_order_they_arrive(
    store: PredictionStore,
) -> None:
    old, new = label("r-1", "5", time=NOW + 1), label("r-1", "3", time=NOW + 2)
    assert await outcomes(store, new, old, new, old) == ["joined", "outdated", "repeated", "outdated"]
    assert await totals(store) == (1, 1)
    # One that claims to come from the future is not later than one that comes now.
    assert await outcomes(store, label("r-2", "5", time=NOW + 1e9), label("r-2", "4")) == [
        "joined",
        "corrected",
    ]


async def test_a_persons_word_outranks_a_systems_and_a_models_is_never_the_truth(
    store: PredictionStore,
) -> None:
    assert await outcomes(store, label("r-1", "3", "model"), label("r-2", "4", "model")) == ["joined"] * 2
    assert await totals(store) == (0, 0)
    assert await totals(store, "model") == (2, 2)
    assert await outcomes(
        store,
        label("r-1", "5", "system"),
        label("r-1", "6", "person"),
        label("r-1", "5", "system"),
        label("r-1", "3", "model"),
    ) == ["corrected", "corrected", "outranked", "outranked"]
    assert await totals(store, "model") == (1, 1)
    assert await totals(store, "system") == (0, 0)
    assert await totals(store) == (0, 1)


async def test_each_label_that_can_not_be_joined_says_why(store: PredictionStore) -> None:
    await store.append(
        [said("twice", "3"), said("twice", "4"), said("same"), said("same")], {}, skipped=0, now=NOW
    )
    answers = await store.join(
        "digits", [label("nobody"), label("r-1", "ten"), label("twice"), label("same")], NOW
    )
    assert [answer.outcome for answer in answers] == ["unknown", "not-a-label", "ambiguous", "joined"]
    assert answers[1].text == "release 3 has no class 'ten'; it has: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert answers[2].text == "requests with 2 different answers had that id"
    assert await outcomes(store, label("r-1"), model="faces") == ["unknown"]
    counts = await store.counts()
    assert counts.outcomes == {"unknown": 2, "not-a-label": 1, "ambiguous": 1, "joined": 1}
    assert (counts.predictions, counts.labelled, counts.oldest) == (8, 1, NOW)


async def test_a_release_without_names_takes_class_numbers(database: Database) -> None:
    store = PredictionStore(database, BOUNDS)
    await store.append([said("r-1", "1")], {RELEASE: []}, skipped=0, now=NOW)
    assert await outcomes(store, label("r-1", "one"), label("r-1", "1")) == ["not-a-label", "joined"]


async def test_a_label_counts_for_the_day_and_the_release_that_answered(store: PredictionStore) -> None:
    newer = ("digits", 4)
    await store.append(
        [(newer, said("r-9")[1]), said("old", time=NOW - 3 * DAY)], {newer: ["3"]}, skipped=0, now=NOW
    )
    assert await outcomes(store, label("old", "4"), label("r-9"), label("r-1")) == ["joined"] * 3
    records = await store.changed(10)
    assert [(each.release, each.opened, each.correct, each.rows) for each in records] == [
        (3, 19_997 * DAY, 0, 1),
        (3, 20_000 * DAY, 1, 1),
        (4, 20_000 * DAY, 1, 1),
    ]


async def test_a_day_is_told_until_it_has_been_told_as_it_is(store: PredictionStore) -> None:
    await outcomes(store, label("r-1"))
    (first,) = await store.changed(10)
    await outcomes(store, label("r-2"))
    await store.told([first])
    (second,) = await store.changed(10)
    assert (first.rows, second.rows) == (1, 2)
    await store.told([second])
    assert await store.changed(10) == []
    await outcomes(store, label("r-2"))
    assert await store.changed(10) == []


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        (msgspec.structs.replace(BOUNDS, rows=5), ["r-25", "r-26", "r-27", "r-28", "r-29"]),
        (msgspec.structs.replace(BOUNDS, bytes=3 * (4 + 1 + 6 + 72)), ["r-27", "r-28", "r-29"]),
        (msgspec.structs.replace(BOUNDS, seconds=2.5), ["r-28", "r-29"]),
    ],
)
async def test_what_is_kept_is_bounded(database: Database, bounds: PredictionBounds, kept: list[str]) -> None:
    store = PredictionStore(database, bounds)
    for start in range(10, 30, 4):
        await store.append(
            [said(f"r-{n}", time=NOW + n) for n in range(start, start + 4)],
            {},
            skipped=0,
            now=NOW + start + 4.5,
        )
    rows = await database.read(
        lambda connection: connection.execute("SELECT request FROM predictions ORDER BY id").fetchall()
    )
    left = [request for (request,) in rows]
    assert left == (kept if bounds.seconds != 2.5 else ["r-27", "r-28", "r-29"][-len(left) :])
    assert len(left) <= 5


async def test_everything_goes_when_all_of_it_is_old(database: Database) -> None:
    store = PredictionStore(database, BOUNDS)
    await store.append([said("r-1")], {}, skipped=3, now=NOW)
    await store.append([], {}, skipped=4, now=NOW + 31 * DAY)
    counts = await store.counts()
    assert (counts.predictions, counts.oldest, counts.skipped) == (0, None, 7)


async def test_a_technician_can_read_them_beside_the_agent(store: PredictionStore, tmp_path: Path) -> None:
    await outcomes(store, label("r-1"), label("r-2"), label("r-3", "5", "model"))
    with sqlite3.connect(f"file:{tmp_path}/telemetry.db?mode=ro", uri=True) as connection:
        daily = connection.execute(
            "SELECT slice, day_utc, origin, rows, correct, accuracy, expected FROM accuracy_daily"
        ).fetchall()
        labelled = connection.execute(
            "SELECT request, said, label, origin, correct FROM predictions_labelled"
        ).fetchall()
    connection.close()
    assert daily == [
        (None, "2024-10-04", "model", 1, 0, 0.0, 0.9),
        (None, "2024-10-04", "person", 2, 1, 0.5, 0.9),
        ("camera=left", "2024-10-04", "model", 1, 0, 0.0, 0.9),
    ]
    assert labelled == [
        ("r-3", "3", "5", "model", 0),
        ("r-2", "4", "3", "person", 0),
        ("r-1", "3", "3", "person", 1),
    ]


async def test_a_day_that_was_let_go_gives_back_no_more_than_it_has(
    store: PredictionStore, database: Database
) -> None:
    """Labels of a day whose sums are no longer there are corrected: there are never more right ones than rows."""
    await store.join("digits", [label("r-1", "7"), label("r-4", "7")], NOW)

    def prune(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM real_accuracy")

    await database.write(prune)
    for text in ("3", "8", "3"):
        await store.join("digits", [label("r-1", text), label("r-3", text)], NOW)
        for figure in (await store.figures()).values():
            assert 0 <= figure.correct <= figure.rows
            assert 0 <= figure.expected_rows <= figure.rows
    assert all(0 <= each.correct <= each.rows for each in await store.changed(9))


async def test_what_another_agent_wrote_stops_nobody(store: PredictionStore, database: Database) -> None:
    await store.keep_receipt(LabelReceipt(id="d-1", outcomes={"joined": 1}))
    await store.join("digits", [label("r-1")], NOW)

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE meta SET value = '[{\"id\":7}]' WHERE key = 'label-receipts'")
        connection.execute("UPDATE prediction_classes SET labels = '{'")
        connection.execute("UPDATE predictions SET origin = 'oracle' WHERE request = 'r-1'")

    await database.write(spoil)
    assert await store.receipt("d-1") is None
    await store.keep_receipt(LabelReceipt(id="d-2", outcomes={}))
    assert await store.receipt("d-2") is not None
    (answer,) = await store.join("digits", [label("r-1", "4")], NOW)
    assert answer.outcome == "corrected"
