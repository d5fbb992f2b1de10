"""Logs of the agent's processes: JSON lines under a service manager, short text on a terminal."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from agent.config import LogConfig


def configure(config: LogConfig) -> None:
    """Send all logs to standard error in the configured form."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    if as_json:
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields={"levelname": "level"}
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
