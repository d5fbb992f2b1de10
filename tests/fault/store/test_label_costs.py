"""What predictions and labels cost: bytes on flash by the kernel's count, and the time of one pass over a full store."""

import time
from pathlib import Path

import pytest

from agent.config import LabelsConfig
from agent.protocol.labels import Label, Prediction
from agent.store.database import Database
from agent.store.ledger import process_written_bytes
from agent.store.predictions import PredictionBounds, PredictionStore
from agent.store.schema import migrate
from agent.store.writer import Writer
from tests.support.counts import count

CONFIG = LabelsConfig()
MINUTES = 30
NOW = 1_700_000_000.0
RELEASE = ("digits", 3)


def predictions(start: int, rows: int, minute: int) -> list[tuple[tuple[str, int], Prediction]]:
    """With ids as clients make them (UUIDs): 36 characters in no order."""
    return [
        (
            RELEASE,
            Prediction(
                f"{number * 2654435761 % 2**32:08x}-4f3a-4b1c-9d2e-{number:012x}",
                NOW + minute * 60,
                "camera=left" if number % 2 else None,
                str(number % 10),
                0.875,
                0.93,
            ),
        )
        for number in range(start, start + rows)
    ]


async def test_a_full_store_at_the_highest_rate(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    migrate(tmp_path)
    writer = Writer()
    database = await Database.open(tmp_path / "telemetry.db", writer)
    bounds = PredictionBounds(
        rows=CONFIG.kept_predictions, bytes=CONFIG.kept_bytes, seconds=CONFIG.kept_days * 86_400
    )
    store = PredictionStore(database, bounds)
    try:
        for start in range(0, CONFIG.kept_predictions, 20_000):
            await store.append(predictions(start, 20_000, 0), {}, skipped=0, now=NOW)
        rate = CONFIG.predictions_per_minute
        before, begun = process_written_bytes(), time.perf_counter()
        for minute in range(MINUTES):
            rows = predictions(CONFIG.kept_predictions + minute * rate, rate, minute)
            await store.append(rows, {}, skipped=0, now=NOW + minute * 60)
        took = time.perf_counter() - begun
        await database.write(lambda _: None)
        written = process_written_bytes() - before
        kept = (await store.counts()).predictions
        newest = predictions(CONFIG.kept_predictions, MINUTES * rate, 0)
        one, many = [newest[0][1]], [each for _, each in newest[:: MINUTES * rate // 500]][:500]
        seconds = {}
        for found in (one, many):
            labels = [Label(request=each.request, label=each.label, origin="person") for each in found]
            begun = time.perf_counter()
            answers = await store.join("digits", labels, NOW)
            seconds[len(found)] = time.perf_counter() - begun
            assert {answer.outcome for answer in answers} <= {"joined", "repeated"}
    finally:
        await database.close()
        await writer.close()
    assert 0.5 * CONFIG.kept_predictions < kept <= CONFIG.kept_predictions
    size = (tmp_path / "telemetry.db").stat().st_size
    assert size < 2 * CONFIG.kept_bytes, "kept_bytes is what it says"
    assert seconds[500] < 5 * seconds[1] + 1, "labels that come together share one pass"
    figures = {
        "predictions_kept": kept,
        "database_kib": size // 1024,
        "one_label_ms": round(seconds[1] * 1e3),
        "500_labels_ms": round(seconds[500] * 1e3),
        "a_minutes_batch_ms": round(took / MINUTES * 1e3),
    }
    if written:  # in memory the kernel counts nothing
        figures["bytes_a_row"] = round(written / (MINUTES * rate))
        figures["mib_a_day_at_the_highest_rate"] = round(written / MINUTES * 60 * 24 / 2**20)
        assert written / (MINUTES * rate) < 1_000
    count(request, "predictions and labels", **figures)
