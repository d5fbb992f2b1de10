"""Client processes, seen from the bench: each runs :mod:`hw_bench.serving.load`."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Struct

from hw_bench.errors import MeasurementError
from hw_bench.serving.messages import WARM_UP_REQUESTS, Burst, Latencies, Ready, Route, Setup
from hw_bench.serving.pairs import Sample, sample

M = TypeVar("M", bound=Struct)

STOP_SECONDS = 10.0
HEAD_START_SECONDS = 0.05
"""For every client to have read its burst and to have warmed up; grown where a request takes longer."""


class Clients:
    """So many processes with every route open; a context manager."""

    def __init__(self, count: int, routes: Sequence[Route]) -> None:
        self._setup = Setup(routes=tuple(routes))
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "hw_bench.serving.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(count)
        ]
        self._head_start = dict.fromkeys((route.name for route in routes), HEAD_START_SECONDS)

    def __enter__(self) -> Self:
        """Open every route in every process.

        Raises:
            MeasurementError: a route does not answer; no process is left.
        """
        try:
            for process in self._processes:
                _write(process, self._setup)
            for process in self._processes:
                _read(process, Ready)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self.close()

    def close(self) -> None:
        """End the processes; each closes what it opened."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):  # it was written to after it had ended
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
            process.stdout.close()  # type: ignore[union-attr]
            process.stderr.close()  # type: ignore[union-attr]

    def burst(self, route: str, count: int, seconds: float) -> Sample:
        """Have the first ``count`` clients send at the same time, and summarise what they saw.

        Raises:
            MeasurementError: a request failed, or nothing was answered within ``seconds``.
        """
        begin = time.monotonic() + self._head_start[route]
        at_work = self._processes[:count]
        for process in at_work:
            _write(process, Burst(route=route, begin=begin, seconds=seconds))
        seen = [_read(process, Latencies) for process in at_work]
        if failed := [client for client in seen if client.failed]:
            # Failures are quick, or slow: either way such a round measures something else.
            raise MeasurementError(f"{route}: {failed[0].failed} requests failed: {failed[0].failure}")
        everything = [latency for client in seen for latency in client.us]
        if not everything:
            raise MeasurementError(f"{route}: no request was answered within {seconds:g} s")
        result = sample(everything, seconds)
        needed = WARM_UP_REQUESTS * result.p95_us / 1e6 * 2
        self._head_start[route] = max(HEAD_START_SECONDS, needed)
        return result


def _write(process: subprocess.Popen[bytes], message: Setup | Burst) -> None:
    try:
        process.stdin.write(msgspec.json.encode(message) + b"\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    except BrokenPipeError:
        raise MeasurementError(f"a client is gone: {_last_words(process)}") from None


def _read(process: subprocess.Popen[bytes], kind: type[M]) -> M:
    line = process.stdout.readline()  # type: ignore[union-attr]
    if not line:
        raise MeasurementError(f"a client failed: {_last_words(process)}")
    return msgspec.json.decode(line, type=kind)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    words = process.stderr.read().decode(errors="replace").strip().splitlines()  # type: ignore[union-attr]
    return words[-1] if words else "it said nothing"
