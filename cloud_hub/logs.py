"""Structured logs: stdlib logging, one JSON object a line (or text for a person at a terminal)."""

import logging
import sys

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from cloud_hub.config import LogSettings


def configure(settings: LogSettings) -> None:
    """Send every log line to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        fields = "{levelname}{name}{message}"
        handler.setFormatter(
            JsonFormatter(
                fields,
                style="{",
                timestamp=True,
                rename_fields={"levelname": "level"},
                reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, with terminal colours
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    for chatty in ("uvicorn.access", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
