"""``make demo``: the whole loop on this machine, shown as it happens, with a summary a person can read."""

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tests.acceptance import scenario
from tests.acceptance.cameras import Tally
from tests.acceptance.processes import StepFailedError
from tests.acceptance.world import APPROVERS, ROOT, World

T = TypeVar("T")
WIDTH = 108
"""Of the summary, columns."""
PAGE = ROOT / "build" / "demo" / "page.html"


class Screen:
    """Steps as they go, with the cameras' live tally under them."""

    def __init__(self, world: World, live: Live) -> None:
        self._world = world
        self._live = live
        self._began = time.monotonic()
        self._lines: list[Text] = []
        self._current: Spinner | None = None

    def step(self, number: str, title: str, work: Callable[[], T], words: Callable[[T], str]) -> T:
        """Do one step, showing it; then say in words what came of it."""
        began = time.monotonic()
        self._current = Spinner("dots", text=Text.assemble((f" {number} ", "bold"), title))
        result = work()
        line = Text.assemble(
            ("  ✓ ", "green"),
            (f"{number} ", "bold"),
            f"{title} ",
            (f"{time.monotonic() - began:.1f} s", "dim"),
        )
        self._lines += [line, Text(f"      {words(result)}", style="cyan")]
        self._current = None
        return result

    def __rich__(self) -> Group:
        parts: list[Any] = [*self._lines]
        if self._current is not None:
            parts.append(self._current)
        seen = scenario.tallies(self._world)
        if seen:
            sent, failed = sum(t.sent for t in seen.values()), sum(t.failed for t in seen.values())
            ok = "green" if failed == 0 else "red"
            parts.append(
                Text.assemble(
                    ("      requests since the step began ", "dim"), f"{sent:,}", (f"  failed {failed}", ok)
                )
            )
        return Group(*parts)


def run(world: World, screen: Screen) -> Group:
    """The nine points, in order; returns the summary."""
    say = screen.step
    say(
        "0",
        "Train, distil, quantise, measure, package four releases",
        world.make_releases,
        lambda _: "releases 1-4; two of them are bad in a way only running shows",
    )
    say(
        "1",
        "The hub starts; keys are made",
        lambda: scenario.start_hub(world),
        lambda _: f"root 2 of 3 offline, approvers 2 of {len(APPROVERS)}, page {world.url}",
    )
    say(
        "2",
        "Release 1 (fp32 teacher) is submitted and signed by two approvers",
        lambda: scenario.publish(world, "teacher", 1),
        lambda _: "published after the second signature, not after the first",
    )
    say(
        "3",
        "Four devices enrol, fetch, verify, probe, activate, commit",
        lambda: scenario.first_rollout(world),
        lambda s: f"all four serve release 1 after {s:.0f} s",
    )
    first = say(
        "4", "Held-out scans through the unmodified tritonclient", lambda: scenario.watch(world, 4), _accuracy
    )
    before = scenario.serving(world, 1, first)
    say(
        "5a",
        "Release 2 (distilled student, int8) is signed",
        lambda: scenario.publish(world, "student", 2),
        lambda _: "published",
    )
    during = say(
        "5b", "It is rolled out in two stages under load", lambda: scenario.staged_rollout(world), _failures
    )
    second = say("5c", "Held-out scans again", lambda: scenario.watch(world, 4), _accuracy)
    after = scenario.serving(world, 2, second)
    drift = say(
        "6",
        f"The lens of {scenario.DIRTY} gets dirty",
        lambda: scenario.dirty_lens(world),
        lambda v: str(v[0]["reason"]),
    )
    wrong = say(
        "7a",
        "Release 3 misses its golden outputs",
        lambda: scenario.bad_release(world, "wrong-outputs", 3),
        lambda r: r.reason,
    )
    slow = say(
        "7b",
        "Release 4 is slower than its budget",
        lambda: scenario.bad_release(world, "too-slow", 4),
        lambda r: r.reason,
    )
    refused = say(
        "8",
        "An attacker on the hub plants release 5 without the approvers' keys",
        lambda: scenario.attack(world),
        lambda r: f"refused by {len(r)} of 4: {next(iter(r.values()))}",
    )
    ledgers = say(
        "9", "The hub is killed and comes back", lambda: scenario.hub_outage(world, 12), _ledger_words
    )
    return _summary(before, after, during, drift, (wrong, slow), refused, ledgers)


def _accuracy(tallies: dict[str, Tally]) -> str:
    correct, sent = sum(t.correct for t in tallies.values()), sum(t.sent for t in tallies.values())
    return f"{correct} of {sent} right ({correct / sent:.1%})"


def _failures(tallies: dict[str, Tally]) -> str:
    return f"{sum(t.sent for t in tallies.values()):,} requests meanwhile, {sum(t.failed for t in tallies.values())} failed"


def _ledger_words(ledgers: list[scenario.Ledger]) -> str:
    held, recorded = sum(row.held for row in ledgers), sum(row.recorded for row in ledgers)
    away = sum(row.recorded_while_away for row in ledgers)
    return f"{recorded} records made, {away} of them while the hub was away; the hub holds {held}: none lost, none twice"


def _summary(
    before: list[scenario.Serving],
    after: list[scenario.Serving],
    during: dict[str, Tally],
    drift: tuple[dict[str, Any], dict[str, Any]],
    bad: tuple[scenario.Refusal, scenario.Refusal],
    refused: dict[str, str],
    ledgers: list[scenario.Ledger],
) -> Group:
    table = Table(title="What this machine has just shown", title_style="bold", show_lines=True, width=WIDTH)
    table.add_column("", style="bold", width=22)
    table.add_column("Release 1 (teacher, fp32)")
    table.add_column("Release 2 (student, int8)")
    rows: tuple[tuple[str, Callable[[scenario.Serving], str]], ...] = (
        ("model file", lambda row: f"{row.size_bytes / 1024:.1f} KiB ({row.variant})"),
        ("probe p50 / p99", lambda row: f"{row.p50_ms * 1e3:.0f} / {row.p99_ms * 1e3:.0f} µs"),
        ("runner's peak memory", lambda row: f"{row.peak_memory_mib:.0f} MiB PSS"),
    )
    for name, words in rows:
        table.add_row(name, words(before[0]), words(after[0]))
    table.add_row("accuracy, 4 cameras", f"{_mean(before):.1%}", f"{_mean(after):.1%}")
    points = Table(show_header=False, show_lines=True, width=WIDTH)
    points.add_column("", style="bold", width=22)
    points.add_column("")
    points.add_row("requests in the swap", _failures(during))
    seen, told = drift
    points.add_row(
        "drift",
        f"on the device: {seen['level']} ({seen['rows']} rows); on the hub: {told['level']} ({told['rows']} rows)",
    )
    for row in bad:
        points.add_row(
            f"release {row.release}",
            f"{row.status} ({row.device_reason}); {len(row.untouched)} devices never asked",
        )
    code = next(iter(refused.values())).partition(":")[0]
    points.add_row("planted release", f"refused by {len(refused)} of 4 devices ({code})")
    points.add_row("telemetry", _ledger_words(ledgers))
    return Group(table, points)


def _mean(rows: list[scenario.Serving]) -> float:
    return sum(row.accuracy for row in rows) / len(rows)


def _save_page(world: World) -> None:
    """Keep the page as it is now, to be opened later."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_bytes(httpx.get(world.url, timeout=30).content)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running, with its page, until Ctrl-C")
    keep = parser.parse_args().keep
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH + 2)
    signal.signal(signal.SIGTERM, _terminated)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeward-demo-", ignore_cleanup_errors=True) as folder:
        world = World(Path(folder))
        try:
            with Live(console=console, refresh_per_second=8) as live:
                screen = Screen(world, live)
                live.update(screen)
                summary = run(world, screen)
            _save_page(world)
            console.print()
            console.print(summary)
            console.print(
                f"\nDone in {time.monotonic() - began:.0f} s. The hub's page, as it stood: file://{PAGE}"
            )
            if keep:
                _wait(console, world)
        except StepFailedError as error:
            console.print(f"\n[bold red]This step did not come out as it must:[/] {error}", highlight=False)
            console.print(f"Logs: {world.folder}/logs (kept until you press Enter)" if keep else "")
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            world.stop()
    return 0


def _terminated(_number: int, _frame: object) -> None:
    sys.exit(143)


def _wait(console: Console, world: World) -> None:
    agent = world.agents[0]
    console.print(f"Still running. Page: [bold]{world.url}[/]   Ctrl-C ends it.")
    console.print(f"A technician's view: .venv/bin/edgeward status --socket {agent.socket}")
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
