"""What can be wrong in the agent itself.

::

    AgentError
    ├── ConfigError          the configuration file; names the setting, its value and what is allowed
    ├── NotEnrolledError     the device has no identity or no trusted root yet
    └── ReleaseError         a release can't be installed here; carries the reason that is reported
"""

from agent.protocol.state import Reason


class AgentError(Exception):
    """Something the agent can't do; the text says what, where and what is allowed."""


class ConfigError(AgentError):
    """The configuration file has a wrong setting."""


class NotEnrolledError(AgentError):
    """The device has no identity or no trusted root yet: run ``edgeward-agent enrol``."""


class ReleaseError(AgentError):
    """A release can't be installed on this device."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason
