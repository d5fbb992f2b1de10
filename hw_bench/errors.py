"""What can go wrong in a bench.

::

    BenchError
    ├── SubjectError      the folder holds nothing that can be measured
    ├── MeasurementError  a variant's own process failed; the text carries its last words
    ├── AbsentError       a server to compare with is not installed, or does not run here
    └── ServerError       a server that is measured did not start, or broke off; the text carries its last words
"""


class BenchError(Exception):
    """A bench can't be run; the text says what, where and what to do."""


class SubjectError(BenchError):
    """A folder is no release folder, or lacks a file that the measurement needs."""


class MeasurementError(BenchError):
    """A process that measures failed."""


class AbsentError(BenchError):
    """A server to compare with is not installed, or does not run here; it is left out, and that is said."""


class ServerError(BenchError):
    """A server that is measured did not start, or broke off."""
