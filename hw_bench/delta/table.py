"""A report as Markdown."""

from collections.abc import Iterator

from hw_bench.delta.bench import MEMORY_BYTES, DeltaReport, Row, Tried
from hw_bench.delta.methods import BSDIFF, DETOOLS, DETOOLS_CRLE, OURS, PATCH_FROM, ZSTD

_MIB = 1024 * 1024
_NAMES = {DETOOLS: "detools (lzma)", DETOOLS_CRLE: "detools (crle)"}
_ORDER = (*OURS, ZSTD, PATCH_FROM, BSDIFF, DETOOLS, DETOOLS_CRLE)


def markdown(report: DeltaReport) -> str:
    """Sizes of all tools, and what applying takes."""
    lines = [
        f"Machine: {report.machine}. Made {report.made} by `{report.command}` with "
        + ", ".join(f"{name} {version}" for name, version in report.packages.items())
        + ".",
        "",
        *(f"- **{name}**: {origin}." for name, origin in report.models.items()),
        *(f"- **{name}**: ABSENT, {reason}." for name, reason in report.absent.items()),
        "",
        "### Bytes of the patch",
        "",
        *_sizes(report.rows),
        "",
        "### Share of the file, and what applying takes",
        "",
        *_costs(report.rows),
    ]
    return "\n".join(lines) + "\n"


def _sizes(rows: tuple[Row, ...]) -> Iterator[str]:
    heads = ["model", "change", "file", *(_NAMES.get(name, name) for name in _ORDER), "ours / best other", ""]
    yield _line(heads)
    yield _line(["---", "---", *(["---:"] * (len(_ORDER) + 2)), "---"])
    for row in rows:
        smallest = min(tried.patch_bytes for tried in row.tried.values())
        cells = [_bold(row.tried[name], smallest) for name in _ORDER]
        ratio = row.ours.patch_bytes / row.best_peer.patch_bytes
        yield _line(
            [
                row.model,
                row.change,
                f"{row.file_bytes:,}",
                *cells,
                f"{ratio:.2f}",
                "kept" if row.kept else "**missed**",
            ]
        )


def _bold(tried: Tried, smallest: int) -> str:
    text = f"{tried.patch_bytes:,}"
    return f"**{text}**" if tried.patch_bytes == smallest else text


def _costs(rows: tuple[Row, ...]) -> Iterator[str]:
    names = (PATCH_FROM, BSDIFF, DETOOLS)
    heads = ["model", "change", "changed share", "shipped", "share", "seconds", "MiB"]
    heads += [f"{name}: {what}" for name in names for what in ("seconds", "MiB")]
    yield _line(heads)
    yield _line(["---", "---", "---:", "---", *(["---:"] * (len(heads) - 4))])
    for row in rows:
        ours = row.ours
        cells = [row.model, row.change, f"{row.changed_share:.1%}", ours.method]
        cells += [f"{ours.patch_bytes / row.file_bytes:.2%}", *_cost(ours)]
        cells += [text for name in names for text in _cost(row.tried[name])]
        yield _line(cells)


def _cost(tried: Tried) -> tuple[str, str]:
    over = tried.method in OURS and tried.applied.beyond_bytes > MEMORY_BYTES
    memory = f"{tried.applied.beyond_bytes / _MIB:.1f}"
    return f"{tried.applied.seconds:.3f}", f"**{memory}**" if over else memory


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
