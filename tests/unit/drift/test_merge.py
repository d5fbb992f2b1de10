from collections.abc import Callable

import msgspec
import pytest

from agent.drift import Identity, LayoutError, WindowBuilder, judge, merge_windows
from agent.drift.signals import Tensors
from agent.protocol.drift import DriftReference, DriftWindow, SignalCounts

Batch = Callable[..., tuple[Tensors, Tensors]]


def window(
    reference: DriftReference, identity: Identity, batch: tuple[Tensors, Tensors], now: float = 0.0
) -> DriftWindow:
    builder = WindowBuilder(identity, reference)
    builder.add(*batch, now)
    closed = builder.close(now + 1)
    assert closed is not None
    return closed.window


def test_windows_too_small_alone_are_judged_together(
    reference: DriftReference, identity: Identity, batch: Batch
) -> None:
    parts = [window(reference, identity, batch(120, shift=0.5), now) for now in (3.0, 1.0, 2.0)]
    assert {part.verdict.level for part in parts} == {"insufficient data"}
    merged = merge_windows(parts)
    assert (merged.rows, merged.windows, merged.opened, merged.closed) == (360, 3, 1.0, 4.0)
    assert judge(reference, merged.signals, merged.rows).verdict.level == "drift"


def test_it_names_every_file_that_served(reference: DriftReference, identity: Identity, batch: Batch) -> None:
    other = msgspec.structs.replace(identity, artifact="b" * 64)
    parts = [window(reference, chosen, batch(5)) for chosen in (other, identity, other)]
    assert merge_windows(parts).artifacts == ("a" * 64, "b" * 64)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(LayoutError, match="no window"):
        merge_windows([])


def test_what_does_not_belong_together_is_refused(
    reference: DriftReference, identity: Identity, batch: Batch
) -> None:
    first = window(reference, identity, batch(5))
    later = msgspec.structs.replace(first, release=2)
    with pytest.raises(LayoutError, match="digits/1 and digits/2"):
        merge_windows([first, later])
    coarser = msgspec.structs.replace(
        first, signals=first.signals | {"class": SignalCounts(counts=(5,), missing=0)}
    )
    with pytest.raises(LayoutError, match="bins of class"):
        merge_windows([first, coarser])
