"""The levels of a verdict, in their order."""

from agent.protocol.drift import VerdictLevel

LEVELS: tuple[VerdictLevel, ...] = ("insufficient data", "ok", "warning", "drift")
SEVERITY: dict[VerdictLevel, int] = {level: severity for severity, level in enumerate(LEVELS)}
