"""A thread that does one thing again and again, whatever goes wrong with it once."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Ticker:
    """Calls ``work`` every ``seconds``, and at once again where it says that there is more to do."""

    def __init__(self, name: str, work: Callable[[], bool], seconds: float) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            more = False
            try:
                more = self._work()
            except Exception:  # one bad pass must not be the last
                log.exception("pass failed", extra={"ticker": self._name})
            if not more:
                self._stop.wait(self._seconds)
