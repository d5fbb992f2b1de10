"""``python -m agent.cli.document_privacy > docs/privacy.md``: every field that leaves a device, and what is done for privacy."""

from collections.abc import Iterator
from typing import Any, get_args

from msgspec import Struct
from msgspec.structs import fields

from agent.cli.leaves import BESIDE, BY_OTHER_WAYS, CHANNELS, LEAVES, MEANINGS
from agent.protocol.settings import allowed_words
from agent.protocol.topics import PREFIX

_HEAD = """\
# What leaves a device, and what it tells

Made by `python -m agent.cli.document_privacy > docs/privacy.md` (`make docs`). The meanings are written by hand in
`agent/cli/leaves.py`; `tests/unit/cli/test_privacy_page.py` compares them with the structs of every channel, so a field can't be added
to what leaves without a word here.

In short:
- **Inputs and answers stay on the device.** What leaves of them is counted: how many lay in which bin of the release's reference.
  A whole input leaves in one case alone, as a sample, by a request that an approver signed, from a device whose owner has set
  `samples.may_leave` (`docs/samples.md`).
- Telemetry names the device, never its users. People appear where they act at the device: who accepted an update, who cleared the
  samples, and the reasons that they typed.
- Ids of requests stay on the device, but for labels that could not be joined, whose ids the hub sent itself. A request parameter
  leaves where the release makes slices by it: its values then are names of counts, so it must not name a person.
- Counts can be made to tell less: `[privacy]` below.
"""

_COUNTS = """\
## Small counts: `[privacy]`
`privacy.counts` in the device's configuration, or `privacy` in the drift policy that is signed with the release; the stricter number of
the two holds, and of two mechanisms the owner's. It is applied when a record is put into the outbox; the device's own database
(`edgeward drift`) has every count as it was. A window says what was done to it in `withheld`. `agent/core/privacy.py` has the code,
`tests/property/core/test_privacy.py` its properties.

**`suppressed`** (`minimum_count`, k, at least 3). A cell (a bin, under, over, missing, not finite) of 1 to k-1 rows is told as 0.
So are the next smallest cells, until at least two are hidden and together have at least k rows (complementary suppression): else the
total would tell a single hidden one. Their sum stands in `SignalCounts.withheld`, so rows add up and windows merge. Windows of slices
are not sent at all: the whole without its other slices would tell what is hidden in one. Days of labels are told in multiples of k,
so that two successive records do not tell one label. The estimated accuracy is rounded, its interval outwards, to the first of 0.01,
0.02, 0.05, 0.1, 0.2 and 0.5 that is k rows of the window or more (in 500 rows with k = 5: 0.01; in 30 rows: 0.2).

It does not protect against who knows more: if all rows of a signal but one are known, its total tells the last one. Hidden cells are
0 beside true zeros, yet who knows the rule can narrow them (two hidden cells of together k rows have at most k-1 possible
splits). Rows of a window, and requests served, are exact. It is no differential privacy, and gives no bound for many releases of
overlapping data; it is what statistics offices call threshold suppression (Hundepool et al., "Statistical Disclosure Control", 2012).

The hub lays the hidden rows where the release's reference has them, among the cells told as 0, before it judges (`docs/fleet-drift.md`): a
healthy fleet is not called drift for what it hides. A window keeps the level that the device found, unless the cells that are told say worse.

**`noised`** (`epsilon`, ε). Each cell of each signal gets noise of the two-sided geometric (discrete Laplace) distribution,

    P(z) = (1 - a) / (1 + a) * a^|z|,    a = exp(-1 / scale),    scale = 2 * signals / ε

(Ghosh, Roughgarden, Sundararajan, "Universally Utility-Maximizing Privacy Mechanisms", SIAM J. Comput. 41(6), 2012), drawn from
the system's randomness with integers alone, by the algorithms 1 and 2 of Canonne, Kamath, Steinke, "The Discrete Gaussian for
Differential Privacy" (2020): no floating-point number whose last bits could tell (Mironov 2012). Replacing one row moves two cells
of each signal by one, and the signals compose (Dwork, Roth, "The Algorithmic Foundations of Differential Privacy", 2014, theorem
3.16), so the counts of one window are ε-differentially private for one row. Then the nearest counts that are not negative and add up to
the window's rows are told; that looks at nothing but the noised cells, so it costs no privacy (proposition 2.1 there). With 5 signals
and ε = 1 the standard deviation of a cell is 14 rows; with 64 signals 181: choose few signals, large windows, or a larger ε.

What it does not protect: the number of rows; the verdict's level, the alarm and the names of the signals that moved most, which come
from exact counts; a person behind many rows (n rows: n·ε) or many windows (their ε add up); a row that lies in a slice is told twice (2·ε).
`repeated`, estimates of accuracy and labels are not told at all. A window keeps the level that the device itself has found; sums over days and the
fleet the hub judges with their noise, and where windows are small it takes that for drift: look at the devices' levels.

**Both**: a verdict has no figures (`moved_most` is empty, its sentence names signals and no numbers), nor have the events of a drift, of
labels that contradict an estimate, and of labels that may be the model's own output, nor the sentence why there is no estimate. That
there was such an event is told, and so is whether there is an estimate (with `suppressed`).
`ReportedState` tells exact numbers of requests, failures and bytes, whatever is set.
"""


def document() -> str:
    """The page as Markdown."""
    lines = [_HEAD, _COUNTS, "## What a field can tell\n", "| says | means |\n|---|---|"]
    lines += [f"| {_code(word)} | {meaning} |" for word, meaning in MEANINGS.items()]
    lines += ["\n## Beside the messages\n", "| what | with what | can tell |\n|---|---|---|"]
    lines += [f"| {what} | {holds} | {_code(tells)} |" for what, holds, tells in BESIDE]
    lines.append("\n## Messages\n")
    lines.append("| where | what |\n|---|---|")
    lines += [f"| `{PREFIX}/<device>/{channel}` | {_names(root)} |" for channel, root in CHANNELS.items()]
    lines += [f"| {way} | {_names(root)} |" for way, root in BY_OTHER_WAYS.items()]
    for struct in leaving():
        lines.append(f"\n### `{struct.__name__}`\n")
        lines.append("| field | type | what for | can tell |\n|---|---|---|---|")
        lines += list(_rows(struct))
    return "\n".join(lines) + "\n"


def leaving() -> list[type[Struct]]:
    """Every struct that leaves, each once, in the order in which they are reached from the channels."""
    found: list[type[Struct]] = []
    for root in (*CHANNELS.values(), *BY_OTHER_WAYS.values()):
        _reach(root, found)
    return found


def _reach(kind: Any, found: list[type[Struct]]) -> None:
    if isinstance(kind, type) and issubclass(kind, Struct):
        if kind not in found:
            found.append(kind)
            for field in fields(kind):
                _reach(field.type, found)
        return
    for part in get_args(kind):
        _reach(part, found)


def _rows(struct: type[Struct]) -> Iterator[str]:
    for field in fields(struct):
        leaf = LEAVES[struct.__name__][field.name]
        words = allowed_words(field.type).replace("|", "\\|")
        yield f"| `{field.name}` | {words} | {leaf.purpose} | {_code(leaf.tells)} |"


def _names(kind: Any) -> str:
    names = [each.__name__ for each in get_args(kind)] or [kind.__name__]
    return " or ".join(f"`{name}`" for name in names)


def _code(word: str) -> str:
    return word if word == "-" else f"`{word}`"


if __name__ == "__main__":
    print(document(), end="")
