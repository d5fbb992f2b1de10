"""``python -m hw_bench hub-year``."""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hw_bench.errors import MeasurementError, SubjectError
from hw_bench.machine import machine
from hw_bench.page import tell, with_tables

if TYPE_CHECKING:
    from hw_bench.hub_year.filling import Year
    from hw_bench.hub_year.measuring import RollUp, Timing

BEGIN = "<!-- hub-year bench: begin -->"
END = "<!-- hub-year bench: end -->"
BYTES_A_WINDOW = 2_500
"""Of disk, indices and all, with room."""


def add_hub_year(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add it; it sets ``run``."""
    parser = commands.add_parser(
        "hub-year", help="fill a hub with a year of hourly windows of a fleet, and time its pages"
    )
    parser.add_argument("--devices", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--days", type=int, default=365, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="a new folder that stays; default: one that is removed"
    )
    parser.add_argument("--again", action="store_true", help="DIR is filled already: measure alone")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE.md",
        help="write the table; between its markers where the file has them",
    )
    parser.set_defaults(run=run_hub_year)


def run_hub_year(options: argparse.Namespace) -> None:
    """Fill, roll up, measure, show and write."""
    from hw_bench.hub_year.filling import Year  # noqa: PLC0415 - brings NumPy

    if options.markdown is not None:
        with_tables(options.markdown, "", BEGIN, END)  # refused before an hour of work, not after
    if min(options.devices, options.days) < 60:  # noqa: PLR2004
        raise SubjectError(
            "--devices and --days: 60 or more, so that each release has windows and a device drifts"
        )
    year = Year(devices=options.devices, days=options.days, end=time.time() // 86_400 * 86_400)
    if options.folder is not None:
        _bench(options.folder, year, options)
        return
    with tempfile.TemporaryDirectory(prefix="edgeward-hub-year-") as folder:
        _bench(Path(folder) / "hub", year, options)


def _bench(folder: Path, year: "Year", options: argparse.Namespace) -> None:
    from hw_bench.hub_year import filling, measuring  # noqa: PLC0415 - bring NumPy and httpx

    rolled = None
    if not options.again:
        free = shutil.disk_usage(folder.parent).free
        if free < year.windows * BYTES_A_WINDOW:
            raise SubjectError(
                f"{folder.parent}: {free >> 30} GiB free, {year.windows * BYTES_A_WINDOW >> 30} are needed"
            )
        port, broker = _free_ports()
        command = [
            sys.executable,
            "-m",
            "cloud_hub",
            "init",
            str(folder),
            "--port",
            str(port),
            "--broker-port",
            str(broker),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        settings = folder / "hub.toml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(
            text.replace("# drift_hours = 24.0", "drift_hours = 48.0"), encoding="utf-8"
        )  # the year ends at midnight
        began = time.monotonic()
        filling.fill(folder, year, tell)
        tell(f"filled in {time.monotonic() - began:.0f} s")
        with measuring.hub(folder, port):
            rolled = measuring.roll_up(folder, year.devices * filling.HUBS_DAYS * 24, tell)
        measuring.check_days(folder)
    token = (folder / "admin.token").read_text(encoding="ascii").strip()
    timings = measuring.measure(folder, _port(folder), token, tell)
    table = _table(year, timings, rolled, (folder / "hub.db").stat().st_size)
    print(table)  # noqa: T201 - the result
    if options.markdown is not None:
        options.markdown.write_text(with_tables(options.markdown, table, BEGIN, END), encoding="utf-8")
    fleet = timings[0]
    if fleet.warm_p50_ms > measuring.LIMIT_MS:
        raise MeasurementError(f"{fleet.name}: over {measuring.LIMIT_MS:g} ms")


def _port(folder: Path) -> int:
    import tomllib  # noqa: PLC0415

    port: int = tomllib.loads((folder / "hub.toml").read_text(encoding="utf-8"))["server"]["port"]
    return port


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _table(year: "Year", timings: "list[Timing]", rolled: "RollUp | None", size: int) -> str:
    lines = [
        (
            f"{year.devices:,} devices, {year.days} days, {year.windows:,} windows, {size / 2**30:.1f} GiB of SQLite; "
            f"{machine()}; {datetime.now(UTC):%Y-%m-%d}."
        ),
        "",
        "| what | cold, ms | warm p50, ms | warm max, ms | CPU, ms | KiB |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {each.name} | {each.cold_ms:.0f} | {each.warm_p50_ms:.0f} | {each.warm_max_ms:.0f} | {each.cpu_ms:.0f} | {each.kib:.0f} |"
            for each in timings
        ),
    ]
    if rolled is not None:
        lines += [
            "",
            (
                f"The hub itself rolled the last days up, from nothing: {rolled.windows_a_second:,.0f} windows a second, then "
                f"{rolled.fleet_days_seconds:.0f} s until the last of the fleet's days was made."
            ),
        ]
    return "\n".join(lines) + "\n"
