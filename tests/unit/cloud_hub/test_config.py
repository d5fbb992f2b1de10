from pathlib import Path

import pytest

from cloud_hub import setup
from cloud_hub.config import HubConfig, load_config, parse_config
from cloud_hub.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = 99999\n", ["server.port = 99999", "65535"]),
        ('[log]\nlevel = "loud"\n', ["log.level = 'loud'"]),
        ("[broker]\nprot = 1\n", ["broker.prot", "no such setting", "port"]),
        ("[brokers]\n", ["brokers", "no such setting", "broker"]),
        ('[broker]\nhost = "0.0.0.0"\n', ["broker.host = '0.0.0.0'", "loopback"]),
        ('[server]\nhost = "0.0.0.0"\n', ["server.host = '0.0.0.0'", "loopback"]),
        ("[trust]\ndraft_days = 91\n", ["trust.draft_days = 91", "90"]),
        ("= 1", ["not TOML"]),
        ('database = "mysql://db/edgeward"\n', ["mysql://db/edgeward", "postgresql+psycopg://user@host"]),
        ('database = "hub.db"\n', ["database: not a URL", "postgresql+psycopg://"]),
        ('database = "postgresql+psycopg://me:secret@db/x"\n', ["password", "PGPASSWORD", "passfile"]),
        ('database = "postgresql+psycopg://me@db/x?password=secret"\n', ["password", "PGPASSWORD"]),
        ("[ingest]\nserve = false\n", ["ingest.serve = false", "broker.embedded = false"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_its_value_and_what_is_allowed(
    text: str, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_config(text)
    for part in said:
        assert part in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_every_setting_is_shown_in_a_new_hubs_file(home: Path) -> None:
    import msgspec

    text = (home / "hub.toml").read_text()
    sections = [
        field for field in msgspec.structs.fields(HubConfig) if hasattr(field.type, "__struct_fields__")
    ]
    assert len(sections) == 16
    for section in sections:
        assert f"[{section.name}]" in text
        for field in msgspec.structs.fields(section.type):
            assert f"{field.name} = " in text or f"[{section.name}.{field.name}]" in text


def test_secrets_are_readable_by_their_owner_only(home: Path) -> None:
    for path in (
        home / "admin.token",
        home / "authority" / "ca.key",
        home / "keys" / "online" / "online.pem",
    ):
        assert path.stat().st_mode & 0o077 == 0, path
    token = (home / "admin.token").read_text().strip()
    assert token.encode() not in (home / "hub.db").read_bytes()


def test_a_hub_is_made_once(home: Path) -> None:
    from cloud_hub.errors import ConflictError

    load_config(home / "hub.toml")
    with pytest.raises(ConflictError):
        setup.create_hub(home, host="127.0.0.1", port=1, broker_port=2, open_dashboard=False)


def test_records_are_kept_for_longer_than_a_device_keeps_their_numbers() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.raw_days = 7: at least 8; devices"):
        parse_config("[telemetry]\nraw_days = 7\n")
    assert parse_config("[telemetry]\nraw_days = 8\n").telemetry.raw_days == 8
