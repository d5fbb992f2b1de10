"""Progress in words, the same for the technician and for the fleet."""

from agent.protocol.state import TransferProgress

_KILO = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB")
_MINUTE = 60
_HOUR = 3600


def fetching(progress: TransferProgress) -> str:
    """``fetching 3.1 of 9.8 MB, 214 kB/s, 31 s left, over http``."""
    total, unit = _scaled(progress.total_bytes)
    done = progress.done_bytes / _KILO ** _UNITS.index(unit)
    parts = [f"fetching {_figure(done)} of {_figure(total)} {unit}"]
    if progress.bytes_per_second is not None:
        parts.append(f"{size(progress.bytes_per_second)}/s")
    if progress.eta_seconds is not None and progress.done_bytes < progress.total_bytes:
        parts.append(f"{duration(progress.eta_seconds)} left")
    if progress.way is not None:
        parts.append(f"over {progress.way}" if progress.way != "bundle" else "from a bundle")
    return ", ".join(parts)


def size(count: float) -> str:
    """Bytes as ``214 kB``, in units of 1,000."""
    figure, unit = _scaled(count)
    return f"{_figure(figure)} {unit}"


def duration(seconds: float) -> str:
    """``31 s``, ``4 min``, ``2 h 10 min``; more than 100 hours are only ``more than 100 h``."""
    whole = round(seconds)
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < 2 * _HOUR:
        return f"{round(whole / _MINUTE)} min"
    hours, rest = divmod(whole, _HOUR)
    return "more than 100 h" if hours >= 100 else f"{hours} h {rest // _MINUTE} min"  # noqa: PLR2004 - as said


def _scaled(count: float) -> tuple[float, str]:
    unit = 0
    while count >= _KILO and unit < len(_UNITS) - 1:
        count /= _KILO
        unit += 1
    return count, _UNITS[unit]


def _figure(value: float) -> str:
    """Three digits that count, none behind the point for whole bytes."""
    if value >= 100 or value == int(value):  # noqa: PLR2004 - three digits
        return f"{value:.0f}"
    return f"{value:.1f}"
