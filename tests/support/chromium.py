"""A real browser without a window, for tests that look at pages: Chromium by its DevTools pipe (no port, no driver)."""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

PROGRAM = "chromium"
LOAD_SECONDS = 60.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the suites run as root in CI; only our own pages are opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

JSON = dict[str, Any]


@dataclass
class Shown:
    """One page as the browser showed it."""

    html: str
    image: bytes
    complaints: list[str] = field(default_factory=list)
    """What stood in the console: errors, warnings, refusals by the page's own policy."""
    requests: list[str] = field(default_factory=list)
    """Every address that was asked for."""
    overflow: int = 0
    """Pixels by which the page is wider than the window."""
    unnamed_images: int = 0
    """Images without a name for those who can't see them, by the accessibility tree."""


class Browser:
    """Opens one page at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]", read: int, write: int) -> None:
        self._process = process
        self._read, self._write = read, write
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._events: list[JSON] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self._page(f"{domain}.enable")

    def show(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        whole: bool = True,
        picture: bool = True,
        webp: bool = False,
    ) -> Shown:
        """Open ``url`` in a window of this size.

        ``whole``: the picture has all of the page, not the window alone; ``picture``: False is quicker, and leaves it out; ``webp``: a third of the size.
        """
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._page("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._page("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._events.clear()
        self._page("Page.navigate", {"url": url})
        self._wait("Page.loadEventFired")
        wider = self._evaluate("document.documentElement.scrollWidth - window.innerWidth")
        html = self._evaluate("document.documentElement.outerHTML")
        nodes = self._page("Accessibility.getFullAXTree")["nodes"]
        return Shown(
            html=html,
            image=self._picture(width, whole=whole, webp=webp) if picture else b"",
            complaints=[text for event in self._events for text in _complaint(event)],
            requests=[
                event["params"]["request"]["url"]
                for event in self._events
                if event["method"] == "Network.requestWillBeSent"
            ],
            overflow=max(0, int(wider)),
            unnamed_images=sum(_unnamed(node) for node in nodes),
        )

    def _picture(self, width: int, *, whole: bool, webp: bool) -> bytes:
        params = {
            "format": "webp" if webp else "png",
            **({"quality": 85} if webp else {}),
            "captureBeyondViewport": whole,
            **self._clip(width, whole=whole),
        }
        return base64.b64decode(self._page("Page.captureScreenshot", params)["data"])

    def _clip(self, width: int, *, whole: bool) -> JSON:
        if not whole:
            return {}
        tall = self._evaluate("document.documentElement.scrollHeight")
        return {"clip": {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1}}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._send({"id": next(self._numbers), "method": "Browser.close"})
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _evaluate(self, script: str) -> Any:
        answer = self._page("Runtime.evaluate", {"expression": script, "returnByValue": True})
        return answer["result"]["value"]

    def _page(self, method: str, params: JSON | None = None) -> JSON:
        return self._call(method, params or {}, session=self._session)

    def _call(self, method: str, params: JSON, session: str | None = None) -> JSON:
        number = next(self._numbers)
        message: JSON = {"id": number, "method": method, "params": params}
        self._send(message if session is None else {**message, "sessionId": session})
        deadline = time.monotonic() + LOAD_SECONDS
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: JSON = answer["result"]
                return result
            if "method" in answer:
                self._events.append(answer)

    def _wait(self, method: str) -> None:
        deadline = time.monotonic() + LOAD_SECONDS
        while not any(event["method"] == method for event in self._events):
            self._events.append(self._receive(deadline))

    def _send(self, message: JSON) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]

    def _receive(self, deadline: float) -> JSON:
        while b"\0" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._read, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"chromium did not answer within {LOAD_SECONDS:.0f} s")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise EOFError("chromium has ended")
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\0")
        self._buffer = bytearray(rest)
        message: JSON = json.loads(line)
        return message


def _complaint(event: JSON) -> list[str]:
    params = event.get("params", {})
    match event["method"]:
        case "Log.entryAdded":
            return [params["entry"]["text"]]
        case "Runtime.consoleAPICalled":
            return [str(params["args"])]
        case "Runtime.exceptionThrown":
            return [params["exceptionDetails"]["text"]]
    return []


def _unnamed(node: JSON) -> bool:
    is_image = node.get("role", {}).get("value") in ("image", "img")
    return is_image and not node.get("ignored") and not node.get("name", {}).get("value")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end."""
    in_read, in_write, out_read, out_write = (_high(end) for end in (*os.pipe(), *os.pipe()))
    with tempfile.TemporaryDirectory(prefix="edgeward-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                "bash",  # a plain sh knows no descriptors of two digits
                "-c",
                f'exec "$@" 3<&{in_read} 4>&{out_write}',
                "bash",
                PROGRAM,
                *FLAGS,
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            pass_fds=(in_read, out_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(in_read)
        os.close(out_write)
        shown: Browser | None = None
        try:
            shown = Browser(process, out_read, in_write)
            yield shown
        finally:
            if shown is not None:
                shown.close()
            else:
                process.kill()
                process.wait()


def _high(descriptor: int) -> int:
    """The same file at a number that is in nobody's way."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
