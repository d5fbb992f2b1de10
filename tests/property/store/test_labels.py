"""Labels in any order, any number of times: what stands at the end is the highest rank's latest, and the figures are its own."""

import asyncio
import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.labels import RANK, Label, LabelOrigin, Prediction
from agent.store.database import Database
from agent.store.predictions import FigureKey, PredictionBounds, PredictionStore
from agent.store.schema import migrate
from agent.store.writer import Writer

NOW = 1_700_000_000.0
REQUESTS, CLASSES = ("r-0", "r-1", "r-2"), ("a", "b")
SAID = {"r-0": ("a", None), "r-1": ("b", "camera=left"), "r-2": ("a", "camera=left")}
ORIGINS: tuple[LabelOrigin, ...] = ("model", "system", "person")

labels = st.builds(
    Label,
    request=st.sampled_from(REQUESTS),
    label=st.sampled_from(CLASSES),
    origin=st.sampled_from(ORIGINS),
    time=st.integers(0, 20).map(lambda second: NOW + second),
)
different = st.lists(
    labels, min_size=1, max_size=25, unique_by=lambda label: (label.request, label.origin, label.time)
)


def end(given: list[Label]) -> dict[tuple[str | None, LabelOrigin], tuple[int, int]]:
    """Slice and origin → (correct, rows), by the rule itself."""
    found: dict[tuple[str | None, LabelOrigin], tuple[int, int]] = {}
    for request, (said, part) in SAID.items():
        own = [label for label in given if label.request == request]
        if not own:
            continue
        stands = max(own, key=lambda label: (RANK[label.origin], label.time))
        for place in {None, part}:
            correct, rows = found.get((place, stands.origin), (0, 0))
            found[place, stands.origin] = (correct + (stands.label == said), rows + 1)
    return found


async def store_after(folder: Path, batches: list[list[Label]]) -> dict[FigureKey, tuple[int, int]]:
    writer = Writer()
    database = await Database.open(folder / "telemetry.db", writer)
    store = PredictionStore(database, PredictionBounds(rows=100, bytes=1 << 20, seconds=1e6))
    await store.append(
        [
            (("m", 1), Prediction(request, NOW, part, said, 0.5, None))
            for request, (said, part) in SAID.items()
        ],
        {("m", 1): CLASSES},
        skipped=0,
        now=NOW,
    )
    for batch in batches:
        await store.join("m", batch, NOW + 60)
    figures = await store.figures()
    await database.close()
    await writer.close()
    return {key: (each.correct, each.rows) for key, each in figures.items()}


@settings(max_examples=12, deadline=None)
@given(given=different, seed=st.integers(0, 2**32), again=st.integers(0, 20), cut=st.integers(1, 8))
def test_the_order_and_the_number_of_times_change_nothing(
    given: list[Label], seed: int, again: int, cut: int
) -> None:
    order = random.Random(seed)
    sent = given + order.choices(given, k=again)
    order.shuffle(sent)
    batches = [sent[start : start + cut] for start in range(0, len(sent), cut)]
    with tempfile.TemporaryDirectory() as folder:
        migrate(Path(folder))
        found = asyncio.run(store_after(Path(folder), batches))
    expected = {FigureKey("m", 1, part, origin): figure for (part, origin), figure in end(given).items()}
    assert found == expected
