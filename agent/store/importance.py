"""What of telemetry matters most: the rank by which records are dropped (the lowest first) and sent (the highest first)."""

from agent.protocol.telemetry import Body, Event, Window

RANKS = {"sample": 0, "health": 20, "event": 40, "sample-answer": 40, "accuracy": 60, "window": 70}
"""By kind. There is room between them: a rank once given stays in the database of every device."""
UNKNOWN_RANK = 40
ERROR = 45
"""Of an event that reports an error. It is urgent, yet no flood of errors pushes verdicts out."""
ALARMING = 90
"""Of a window whose verdict is a warning or drift: the last to be dropped, and urgent."""
URGENT = (ERROR, ALARMING)


def rank(body: Body) -> int:
    """How important one record is."""
    if isinstance(body, Event) and body.severity == "error":
        return ERROR
    if isinstance(body, Window) and body.window.verdict.level in {"warning", "drift"}:
        return ALARMING
    return RANKS.get(str(body.__struct_config__.tag), UNKNOWN_RANK)
