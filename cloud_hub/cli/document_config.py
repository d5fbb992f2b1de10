"""``python -m cloud_hub.cli.document_config > docs/hub-configuration.md``: the settings, from their structs."""

import inspect

from agent.protocol.settings import settings_page
from cloud_hub import config

_HEAD = """\
# The hub's settings

Made from the structs of `cloud_hub/config.py` by `python -m cloud_hub.cli.document_config > docs/hub-configuration.md`; a
test fails when the two differ.

One TOML file, `hub.toml`; `edgeward-hub init DIR` writes one with every setting in it. Relative paths in it start at the
folder it stands in. Every setting has a default, so an empty file is a hub on this machine. The first two settings stand
above all sections.
"""


def document() -> str:
    """The page as Markdown."""
    return f"{_HEAD}\n{settings_page(config.HubConfig, inspect.getsource(config))}"


if __name__ == "__main__":
    print(document(), end="")
