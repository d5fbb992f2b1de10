"""Two network namespaces joined by a wire that loses, delays and can be pulled out: real TCP over a pair of TUN devices.

``tc netem`` would do the same where the kernel has it; a program that carries the packets needs root and ``/dev/net/tun`` alone.
Every packet is its own: it is lost with the probability ``loss``, or handed over ``delay`` seconds later, in order.
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import selectors
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_PACKET = 65_536
NEAR, FAR = "10.77.0.1", "10.77.0.2"


def missing() -> str | None:
    """What such a wire needs and this machine does not have."""
    if os.geteuid() != 0:
        return "root (network namespaces)"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun (modprobe tun)"
    if shutil.which("ip") is None:
        return "ip (apt install iproute2)"
    return None


class LossyWire:
    """Near end (``NEAR``) and far end (``FAR``), each in a namespace of its own.

    Args:
        loss: probability of each packet, each way.
        delay: seconds, each way.
        seed: of the losses.
    """

    def __init__(self, *, loss: float, delay: float, seed: int = 1) -> None:
        self.loss = loss
        self.delay = delay
        self.carried = 0
        self.lost = 0
        self._random = random.Random(seed)
        names = f"ew{os.getpid()}"
        self._names = (f"{names}near", f"{names}far")
        self._fds: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        try:
            for index, (name, own, peer) in enumerate(
                zip(self._names, (NEAR, FAR), (FAR, NEAR), strict=True)
            ):
                _ip("netns", "add", name)
                device = f"{name[:10]}{index}"
                self._fds.append(_open_tun(device))
                _ip("link", "set", device, "netns", name)
                _ip("-n", name, "addr", "add", own, "peer", peer, "dev", device)
                _ip("-n", name, "link", "set", device, "up", "mtu", "1400")
                _ip("-n", name, "link", "set", "lo", "up")
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        self._close()

    def near(self, command: Sequence[str], **more: Any) -> "subprocess.Popen[Any]":
        """Start a command at the near end."""
        return subprocess.Popen(["ip", "netns", "exec", self._names[0], *command], **more)

    def far(self, command: Sequence[str], **more: Any) -> "subprocess.Popen[Any]":
        """Start a command at the far end."""
        return subprocess.Popen(["ip", "netns", "exec", self._names[1], *command], **more)

    def _close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        for name in self._names:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def _carry(self) -> None:
        selector = selectors.DefaultSelector()
        for fd in self._fds:
            selector.register(fd, selectors.EVENT_READ)
        other = dict(zip(self._fds, reversed(self._fds), strict=True))
        waiting: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        while not self._stop.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, target, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):  # the end is down: a packet more is lost
                    os.write(target, packet)
            pause = 0.05 if not waiting else max(0.0, min(0.05, waiting[0][0] - time.monotonic()))
            for key, _ in selector.select(pause):
                packet = os.read(key.fd, _PACKET)
                if self._random.random() < self.loss:
                    self.lost += 1
                    continue
                self.carried += 1
                at = time.monotonic() + self.delay
                heapq.heappush(waiting, (at, next(order), other[key.fd], packet))
        selector.close()


def _open_tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_NO_PI))
    return fd


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
