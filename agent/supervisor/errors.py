"""What can go wrong with a device's own processes and addresses.

::

    SupervisorError
    ├── AddressError                 an address that may not, or can't, be listened on
    ├── ChannelError                 a child's framed channel
    │   ├── ChannelClosedError       the child has closed its end, or died
    │   └── ChannelProtocolError     bytes that are not a message of the channel's protocol
    ├── FrontStartError              the front did not start; carries a ``Reason``: ``front-failed``
    └── RunnerError                  carries a ``Reason`` (code and text)
        ├── RunnerStartError         it never said ``Loaded``: ``load-failed``'s own code, ``start-timeout``,
        │                            ``not-enough-memory``
        ├── ProbeFailedError         it could not be measured: the runner's own code, or ``probe-timeout``
        ├── RunnerTimeoutError       no answer to ``Accept``: ``accept-timeout``
        └── RunnerDiedError          the process is gone: ``runner-died``, ``runner-protocol``, ``runner-stuck``,
                                     ``memory-over-budget``, ``out-of-memory``
"""

from agent.protocol.state import Reason


class SupervisorError(Exception):
    """Something about a device's own processes; the text says what, where and what is allowed."""


class AddressError(SupervisorError):
    """An inference address may not be listened on, or the system does not give it."""


class ChannelError(SupervisorError):
    """A child's channel can't be used any more."""


class ChannelClosedError(ChannelError):
    """The child has closed its end of the channel, or died."""


class ChannelProtocolError(ChannelError):
    """The child sent bytes that are not a message of the channel's protocol."""


class FrontStartError(SupervisorError):
    """The front's process did not start to serve; it has been ended."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class RunnerError(SupervisorError):
    """A runner did not do what it was asked to do."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{reason.code}: {reason.text}")
        self.reason = reason

    @property
    def code(self) -> str:
        """Stable, for programs."""
        return self.reason.code

    @property
    def text(self) -> str:
        """Plain words, for people."""
        return self.reason.text


class RunnerStartError(RunnerError):
    """A runner did not load its model; its process has been ended."""


class ProbeFailedError(RunnerError):
    """A runner could not be measured; after ``probe-timeout`` its process has been ended."""


class RunnerTimeoutError(RunnerError):
    """A runner did not answer in time; its process has been ended."""


class RunnerDiedError(RunnerError):
    """A runner's process is gone; the reason says how, and why if the supervisor itself ended it."""
