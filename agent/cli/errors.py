"""What can go wrong for a technician; each carries its exit code and what to try next.

::

    CliError                    1   the agent refused or failed
    ├── AgentNotRunningError    3   nobody listens on the control socket
    ├── NotAllowedError         4   this user may not use the control socket
    ├── UnknownModelError       5   the device has no such model
    ├── BadAnswerError          6   what listens there does not speak this version's protocol
    └── BundleRefusedError      7   the bundle, or an update in it, was refused or rolled back

Exit code 2 is argparse's: wrong usage. Exit code 10: `status` worked, and something is wrong with the device.
"""


class CliError(Exception):
    """The agent refused the request or failed; ``hint`` says what to try next."""

    exit_code = 1

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


class AgentNotRunningError(CliError):
    """Nobody listens on the control socket."""

    exit_code = 3


class NotAllowedError(CliError):
    """This user may not use the control socket."""

    exit_code = 4


class UnknownModelError(CliError):
    """The device has no such model."""

    exit_code = 5


class BadAnswerError(CliError):
    """What listens there does not speak this version's protocol."""

    exit_code = 6


class BundleRefusedError(CliError):
    """The bundle, or an update in it, was refused or rolled back."""

    exit_code = 7
