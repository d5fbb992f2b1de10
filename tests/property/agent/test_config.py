"""Whatever stands in the file, it is a configuration or a ConfigError in the user's words."""

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import fields

from agent.config import AgentConfig
from agent.config_file import parse_config
from agent.errors import ConfigError
from cloud_hub.config import HubConfig
from cloud_hub.config import parse_config as parse_hub_config
from cloud_hub.errors import ConfigError as HubConfigError

SECTIONS = [field.name for field in fields(AgentConfig)]
SETTINGS = sorted({field.name for section in fields(AgentConfig) for field in fields(section.type)})
HUB_SECTIONS = [field.name for field in fields(HubConfig)]
HUB_NAMES = ["server", "broker", "tls", "host", "port", "trust", "draft_days", "log", "level", "name", "data"]

names = st.sampled_from([*SECTIONS, *SETTINGS, *HUB_NAMES]) | st.text(max_size=8)
scalars = (
    st.text(max_size=20)
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.booleans()
    | st.sampled_from(["info", "json", "camera-1", "127.0.0.1:8600"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=6)
plausible = st.fixed_dictionaries(
    {"device": st.fixed_dictionaries({"id": st.just("camera-1"), "hardware_class": st.just("cpu")})},
    optional={name: st.dictionaries(names, values, max_size=4) for name in SECTIONS[1:]},
)


def toml(value: Any) -> str:
    """One value as TOML (inline tables, so that any nesting can be written)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def file_of(document: dict[str, Any]) -> str:
    return "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in document.items())


def refusal_of(text: str) -> str | None:
    """What is wrong with it; None where nothing is. Any other error is the test's failure."""
    try:
        parse_config(text, source="agent.toml")
    except ConfigError as error:
        return str(error)
    return None


@given(documents | plausible)
def test_a_random_document_is_a_configuration_or_a_config_error(document: dict[str, Any]) -> None:
    refusal = refusal_of(file_of(document))
    if refusal is None:
        assert document["device"]["id"] == "camera-1"
    else:
        assert refusal.startswith("agent.toml: ")
        assert "not TOML" not in refusal


@given(documents)
def test_a_random_hub_file_is_a_configuration_or_a_config_error(document: dict[str, Any]) -> None:
    refusal = ""
    try:
        parse_hub_config(file_of(document))
    except HubConfigError as error:
        refusal = str(error)
    assert refusal.startswith("hub.toml: ") or set(document) <= set(HUB_SECTIONS)


@given(st.text(max_size=200))
def test_no_random_text_raises_anything_else(text: str) -> None:
    assert (refusal_of(text) or "").startswith("agent.toml: "), "no text of this strategy names a device"


@given(plausible, st.sampled_from(SECTIONS), st.text("abcdef", min_size=3, max_size=6), scalars)
def test_an_unknown_setting_is_named_with_its_full_path(
    document: dict[str, Any], section: str, name: str, value: Any
) -> None:
    assume(name not in SETTINGS)
    base = {"device": document["device"]}
    base[section] = {**base.get(section, {}), name: value}
    refusal = refusal_of(file_of(base)) or ""
    assert f"{section}.{name} = " in refusal
    assert "there is no such setting; allowed here: " in refusal
