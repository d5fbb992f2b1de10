"""Who may reach a model and how much of it they see; the same for every runner of the model."""

from typing import Literal

from msgspec import Struct


class TlsFiles(Struct, frozen=True, kw_only=True):
    """PEM files that a TCP address speaks TLS with; each runner reads them when it starts."""

    certificate: str
    """Path of the chain, leaf first."""
    key: str
    """Path of its private key."""
    client_ca: str | None = None
    """Path of the authorities that must have signed a client's certificate; None: clients need none."""


TcpBudget = Literal["refused", "shared"]
"""Where nobody knows who asks: ``refused``, or all together have one user's budget."""


class QueryBudget(Struct, frozen=True, kw_only=True):
    """Rows that one user may have inferred: a bucket that starts full and fills again evenly."""

    rows_per_hour: int
    burst: int
    """Rows that fit in the bucket, so the most at once."""
    tcp: TcpBudget = "refused"


class OutputLimits(Struct, frozen=True, kw_only=True):
    """What is told of float outputs."""

    decimals: int | None = None
    """Rounded to so many; None: as they are."""
    top_k: int | None = None
    """Largest values of the last axis that are told; None: all."""


class Access(Struct, frozen=True, kw_only=True):
    """The walls of one model. Nothing set: its Unix socket's mode, and plain HTTP on loopback."""

    tls: TlsFiles | None = None
    hosts: tuple[str, ...] = ()
    """Names that clients may call the TCP address by, beside its own address and the loopback names."""
    query_budget: QueryBudget | None = None
    ledger_fd: int | None = None
    """Memory that the model's runners share, where the query budget's debts stand; None without a budget."""
    outputs: OutputLimits = OutputLimits()
    registrations_fd: int | None = None
    """Memory that the model's runners share, where clients' shared memory registrations stand; None: each has its own."""
