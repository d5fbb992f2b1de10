"""What can go wrong in a bench.

::

    BenchError
    ├── SubjectError      the folder holds nothing that can be measured
    └── MeasurementError  a variant's own process failed; the text carries its last words
"""


class BenchError(Exception):
    """A bench can't be run; the text says what, where and what to do."""


class SubjectError(BenchError):
    """A folder is no release folder, or lacks a file that the measurement needs."""


class MeasurementError(BenchError):
    """The process that measured one variant failed."""
