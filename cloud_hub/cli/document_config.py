"""``python -m cloud_hub.cli.document_config > docs/hub-configuration.md``: the settings, from their structs."""

import inspect

from agent.protocol.settings import settings_page
from cloud_hub import config
from cloud_hub.retraining import policy
from cloud_hub.retraining import settings as notices
from cloud_hub.webhooks import settings as webhooks

_HEAD = """\
# The hub's settings

Made from the structs of `cloud_hub/config.py` by `python -m cloud_hub.cli.document_config > docs/hub-configuration.md`; a
test fails when the two differ.

One TOML file, `hub.toml`; `edgeward-hub init DIR` writes one with every setting in it. Relative paths in it start at the
folder it stands in. Every setting has a default, so an empty file is a hub on this machine. The first two settings stand
above all sections.
"""

SOURCES = (config, policy, notices, webhooks)
"""Where the settings stand with their meanings."""


def document() -> str:
    """The page as Markdown."""
    sources = "\n".join(map(inspect.getsource, SOURCES))
    return f"{_HEAD}\n{settings_page(config.HubConfig, sources)}"


if __name__ == "__main__":
    print(document(), end="")
