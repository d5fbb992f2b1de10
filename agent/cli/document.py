"""``python -m agent.cli.document > docs/cli.md``: the manual, from the parser's own help."""

from agent.cli.parser import build_parser, command_parsers

_HEAD = """\
# `edgeward`, the technician's command

Made from the parser's help by `python -m agent.cli.document > docs/cli.md`; a test fails when the two differ.

It talks to the agent over a Unix socket (mode 0660) and to nothing else. `--json` prints the answer as one document;
its structs, one a command, stand in `agent/protocol/control.py`. The wire is one JSON line each way:

```console
$ echo '{"method":"status"}' | socat - UNIX-CONNECT:/run/edgeward/control.sock
```
"""


def document() -> str:
    """The manual as Markdown."""
    parser = build_parser()
    parts = [_HEAD, _block(parser.format_help())]
    for name, command in command_parsers(parser).items():
        parts.append(f"## `edgeward {name}`\n\n{_block(command.format_help())}")
    return "\n".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    print(document(), end="")
