"""The pictures of the documentation, made anew: ``python -m tests.support.pictures docs/images``.

The pages are those of the fleet to look at, in a real browser; the terminal is ``edgeward drift`` of one of its cameras,
in a terminal of rich's. Each is cut where it has been understood.
"""

import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from agent.cli.bars import BLOCKS
from agent.cli.drift_view import show_drift
from agent.protocol.control import DriftResult
from tests.support.chromium import Browser, browser
from tests.support.drift_reports import report
from tests.support.picture_hub import picture_hub, served

PAGES = {
    "fleet.webp": ("/", 1240, 1680),
    "release.webp": ("/releases/digits/1", 1120, 1130),
}
"""File → address, width and height of the window."""
COLUMNS = 92
_TERMINAL = """<!doctype html><html lang="en"><meta charset="utf-8"><title>edgeward drift</title>
<style>body {{ margin: 0; background: #12171d; color: #dfe5ec; padding: 18px 22px; }}
pre {{ font: 14px/1.28 "DejaVu Sans Mono", monospace; margin: 0; }} {stylesheet}</style>
<body><pre>$ edgeward drift digits
{code}</pre></body></html>"""


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="edgeward-pictures-") as scratch, browser() as window:
        with picture_hub(Path(scratch)) as hub, served(hub) as address:
            for name, (path, width, height) in PAGES.items():
                shown = window.show(f"{address}{path}", width=width, height=height, whole=False, webp=True)
                (folder / name).write_bytes(shown.image)
        (folder / "terminal.webp").write_bytes(_terminal(window, Path(scratch)))


def _terminal(window: Browser, scratch: Path) -> bytes:
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
    )
    show_drift(DriftResult(reports=(report(history=48),)), console, signal=None, style=BLOCKS)
    page = scratch / "terminal.html"
    page.write_text(console.export_html(code_format=_TERMINAL, theme=MONOKAI))
    return window.show(page.as_uri(), width=850, height=100, webp=True).image


if __name__ == "__main__":
    main()
