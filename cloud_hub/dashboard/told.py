"""Findings as a page shows them: the same thing about many devices is said once."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from cloud_hub.fleet.service import Finding, Severity

SHOWN = 10
"""Before the rest is folded away."""


class Told(Struct, frozen=True, kw_only=True):
    """One thing that someone should know, and of whom."""

    severity: Severity
    where: tuple[str, ...]
    what: str
    to_do: str
    addresses: dict[str, str]

    def link(self, name: str) -> str | None:
        """The page of ``name``, if it has one."""
        return self.addresses.get(name)


def grouped(findings: Sequence[Finding], known: Mapping[str, str]) -> tuple[Told, ...]:
    """Findings in their order; those that differ by their device alone are one. ``known``: name → address of its page."""
    groups: dict[tuple[Severity, str, str], list[str]] = {}
    for each in findings:
        groups.setdefault((each.severity, each.what, each.to_do), []).append(each.where)
    return tuple(
        Told(
            severity=severity,
            where=tuple(dict.fromkeys(where)),
            what=what,
            to_do=to_do,
            addresses={name: known[name] for name in where if name in known},
        )
        for (severity, what, to_do), where in groups.items()
    )


_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


def worst_of(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, else as they came."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])


class Headline(Struct, frozen=True, kw_only=True):
    tone: str
    text: str


def headline(told: Sequence[Told]) -> Headline:
    """The one sentence that is read first."""
    errors = sum(each.severity == "error" for each in told)
    warnings = sum(each.severity == "warning" for each in told)
    if errors:
        return Headline(
            tone="bad", text=f"{errors} {'thing needs' if errors == 1 else 'things need'} you now"
        )
    if warnings:
        return Headline(
            tone="warn", text=f"{warnings} {'thing' if warnings == 1 else 'things'} to keep an eye on"
        )
    return Headline(tone="good", text="All is well")
