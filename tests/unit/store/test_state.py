from pathlib import Path

from agent.store.state import StateStore
from agent.store.writer import Writer


async def test_values_outlive_the_process_and_change_together(tmp_path: Path, writer: Writer) -> None:
    state = await StateStore.open(tmp_path / "state.db", writer)
    await state.put("slots/digits", b"1")
    await state.put_many({"slots/digits": b"2", "deployment/d1": b"x", "slots/faces": b"3"})
    await state.put_many({"slots/faces": None})
    await state.close()
    again = await StateStore.open(tmp_path / "state.db", writer)
    assert await again.get("slots/digits") == b"2"
    assert await again.get("nothing") is None
    assert await again.get_all("slots/") == {"slots/digits": b"2"}
    assert again.restored is None
    await again.close()
