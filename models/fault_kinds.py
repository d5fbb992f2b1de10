"""Names of the faults, apart from the code that makes them: that code imports two runtimes."""

from typing import Literal

FaultKind = Literal["wrong-outputs", "too-slow"]
FAULT_KINDS: tuple[FaultKind, ...] = ("wrong-outputs", "too-slow")
