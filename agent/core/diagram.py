"""The update machine's page, from its table: a Mermaid diagram and the same as rows.

Made by ``python -c "from agent.core.diagram import page; print(page(), end='')" > docs/update-machine.md``.
"""

from agent.core.update_machine import TRANSITIONS, Transition
from agent.protocol.state import FINAL_PHASES, Phase

_HEAD = """\
# The update machine

Made from `agent.core.update_machine.TRANSITIONS`, and a test fails when it is not current:

```console
$ python -c "from agent.core.diagram import page; print(page(), end='')" > docs/update-machine.md
```

One run of it is one deployment: a release on its way to one device. An event that the table does not have is refused
and changes nothing. The new state, slots and deployment together, is persisted in one write before its commands run.
After a crash `fetching` and `ready` go on, what has ended stays, and everything else becomes `rolling-back` with the
reason `interrupted`. Starts of the agent are counted with the run and bounded, so that no run restarts a device for ever.
What each phase may wait for, and what its owner can set, stands in [updates.md](updates.md).
"""

_BETWEEN = """
From every phase that ends a run a new deployment can begin (`Assigned`, `AlreadyActive`, `AssignmentRefused`), and a
technician can go back to the release before (`RollbackRequested`); the diagram shows these once, from `at rest`.

## Every transition

| in | event | to | commands, after the state is persisted |
|---|---|---|---|
"""

Edges = dict[tuple[str, str], list[str]]


def page() -> str:
    """``docs/update-machine.md``."""
    return f"{_HEAD}\n```mermaid\n{mermaid()}```\n{_BETWEEN}{rows()}"


def mermaid() -> str:
    """A Mermaid ``stateDiagram-v2``; an edge carries every event that takes it."""
    edges: Edges = {}
    for (phase, event), row in TRANSITIONS.items():
        origin = "at_rest" if phase in FINAL_PHASES else _node(phase)
        for target in _targets(row):
            if phase is not target:
                labels = edges.setdefault((origin, _node(target)), [])
                if event.__name__ not in labels:
                    labels.append(event.__name__)
    lines = ["stateDiagram-v2"]
    lines += [f"    {_node(phase)}: {phase.value}" for phase in Phase if "-" in phase.value]
    lines.append("    at_rest: at rest")
    lines += [f"    {origin} --> {target}: {', '.join(labels)}" for (origin, target), labels in edges.items()]
    lines += [f"    {_node(phase)} --> at_rest" for phase in Phase if phase in FINAL_PHASES]
    return "\n".join(lines) + "\n"


def rows() -> str:
    """The table as Markdown rows."""
    lines = []
    for (phase, event), row in TRANSITIONS.items():
        start = "(fresh device)" if phase is None else phase.value
        target = " or, when superseded, ".join(to.value for to in _targets(row))
        commands = ", ".join(f"`{command.__name__}`" for command in row.commands) or "none"
        lines.append(f"| {start} | `{event.__name__}` | {target} | {commands} |")
    return "\n".join(lines) + "\n"


def _targets(row: Transition) -> tuple[Phase, ...]:
    return (row.to,) if row.superseded_to is None else (row.to, row.superseded_to)


def _node(phase: Phase | None) -> str:
    return "[*]" if phase is None else phase.value.replace("-", "_")
