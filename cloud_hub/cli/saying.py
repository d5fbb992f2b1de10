"""Words on a terminal that a hub, a bundle or a device wrote in part."""

from agent.protocol.words import as_lines


def say(line: str) -> None:
    """Print one line: nothing in it moves the cursor, or begins another."""
    print(as_lines([line]))
