"""What the measuring process tells its parent, which imports no library that is measured."""

from msgspec import Struct


class Measured(Struct, frozen=True, kw_only=True):
    """One model with one setting."""

    p50_us: float
    p99_us: float
    loaded_mib: float
    """PSS of the process after loading and warming up with one row, MiB, less that of the libraries alone."""
    used_mib: float
    """The same after runs of 1 to 32 rows."""
    idle_percent: float
    """Of a core, while requests come at 10 a second, beyond what the runs themselves take when they come at once."""
