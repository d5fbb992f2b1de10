"""What can be wrong with a decision.

::

    CoreError
    └── IllegalEventError              the table has no such transition; nothing was changed
        ├── StaleEventError            the event is of another deployment than the one under way
        └── NothingToRollBackToError   a technician asked to go back and no earlier release is kept
"""


class CoreError(Exception):
    """A decision can't be made from what was given; the text says what and why."""


class IllegalEventError(CoreError):
    """The event is not allowed in this phase (:data:`agent.core.update_machine.TRANSITIONS`); nothing was changed."""


class StaleEventError(IllegalEventError):
    """The event is of a deployment that is no longer the one under way: a late answer, which may be dropped."""


class NothingToRollBackToError(IllegalEventError):
    """The device keeps no earlier release of the model."""
