"""``python -m agent.cli.document_config > docs/configuration.md``: the settings, from their structs."""

import inspect

from agent import config
from agent.protocol.settings import settings_page

_HEAD = """\
# The agent's settings

Made from the structs of `agent/config.py` by `python -m agent.cli.document_config > docs/configuration.md`; a test fails
when the two differ.

One TOML file, `/etc/edgeward/agent.toml` unless `--config` names another. `edgeward-agent check-config` says what is wrong
with it: the setting, its value and what is allowed. The smallest file that works:

```toml
[device]
id = "camera-1"
hardware_class = "cpu"
```
"""


def document() -> str:
    """The page as Markdown."""
    return f"{_HEAD}\n{settings_page(config.AgentConfig, inspect.getsource(config))}"


if __name__ == "__main__":
    print(document(), end="")
