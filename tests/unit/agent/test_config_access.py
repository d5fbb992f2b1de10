"""Settings of local access: what contradicts itself is refused, and each model gets its own walls."""

import pytest

from agent.config import ServingConfig, host_and_port
from agent.config_file import parse_config
from agent.errors import ConfigError
from agent.protocol.access import Access, OutputLimits, QueryBudget, TlsFiles

DEVICE = '[device]\nid = "camera-1"\nhardware_class = "cpu"\n[serving]\n'
TLS = '[serving.tls]\ncertificate = "/etc/edgeward/tls.crt"\nkey = "/etc/edgeward/tls.key"\n'
BUDGET = "[serving.query_budget]\nrows_per_hour = 100\nburst = 10\n"


def serving(text: str) -> ServingConfig:
    return parse_config(DEVICE + text, source="agent.toml").serving


@pytest.mark.parametrize("address", ["0.0.0.0:8600", "192.168.1.4:8600", "[::]:8600", "[2001:db8::1]:8600"])
def test_off_loopback_only_with_tls(address: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        serving(f'address = "{address}"\n')
    assert f"serving.address = '{address}': off loopback only with TLS" in str(refusal.value)
    assert "set serving.tls.certificate and serving.tls.key" in str(refusal.value)
    assert serving(f'address = "{address}"\n{TLS}').address == address


@pytest.mark.parametrize("address", ["127.0.0.1:8600", "localhost:8600", "[::1]:8600", "127.1.2.3:8600"])
def test_loopback_with_and_without(address: str) -> None:
    assert serving(f'address = "{address}"\n').tls is None
    assert serving(f'address = "{address}"\n{TLS}').tls is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'address = "device.local:8600"\n' + TLS,
            ["serving.address = 'device.local:8600'", "expected an IP address of this device"],
        ),
        (TLS, ["serving.tls", "serving.address, which is not set"]),
        (
            'address = "127.0.0.1:8600"\n[serving.tls]\ncertificate = "/a.crt"\n',
            ["serving.tls.key: is missing", "an absolute path"],
        ),
        (
            'address = "127.0.0.1:8600"\n[serving.tls]\ncertificate = "a.crt"\nkey = "/a.key"\n',
            ["serving.tls.certificate = 'a.crt'", "an absolute path"],
        ),
        (
            'address = "127.0.0.1:8600"\nhosts = ["camera-1.example"]\n',
            ["serving.hosts = ['camera-1.example']", "only with serving.tls"],
        ),
        (
            'address = "127.0.0.1:8600"\nhosts = ["Camera:8600"]\n' + TLS,
            ["serving.hosts = ['Camera:8600']", "a host name in lower case, without a port"],
        ),
        (
            'address = "10.0.0.4:8600"\nshared_memory = "unix+tcp"\n' + TLS,
            ["serving.address = '10.0.0.4:8600'", "serving.shared_memory = 'unix+tcp'"],
        ),
        (
            'address = "127.0.0.1:8600"\n' + BUDGET,
            ["serving.address", "would answer no inference", "serving.query_budget.tcp = 'shared'"],
        ),
        ("[serving.query_budget]\nrows_per_hour = 10\n", ["serving.query_budget.burst: is missing"]),
        (BUDGET + 'tcp = "open"\n', ["serving.query_budget.tcp = 'open'", '"refused", "shared"']),
        (
            "[serving.query_budgets.digits]\nrows_per_hour = 0\nburst = 1\n",
            ["serving.query_budgets.digits.rows_per_hour = 0", "≥ 1"],
        ),
        ('socket_group = ""\n', ["serving.socket_group = ''", "1-64 characters"]),
        ("[serving.outputs.digits]\n", ["serving.outputs.digits: sets nothing", "decimals, top_k or both"]),
        ("[serving.outputs.digits]\ndecimals = -1\n", ["serving.outputs.digits.decimals = -1", "≥ 0, ≤ 15"]),
        ("[serving.outputs.digits]\ntop_k = 0\n", ["serving.outputs.digits.top_k = 0", "≥ 1"]),
    ],
)
def test_a_wall_that_would_not_stand_is_refused(text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        serving(text)
    for part in ("agent.toml: serving.", *said):
        assert part in str(refusal.value)


def test_without_settings_there_are_no_further_walls() -> None:
    assert serving("").access("digits") == Access()


def test_each_model_gets_its_own_walls() -> None:
    config = serving(
        'address = "10.0.0.4:8600"\nhosts = ["camera-1.example"]\n'
        + TLS
        + 'client_ca = "/etc/edgeward/clients.crt"\n'
        + BUDGET
        + 'tcp = "shared"\n'
        + "[serving.query_budgets.digits]\nrows_per_hour = 5\nburst = 2\n"
        + "[serving.outputs.digits]\ndecimals = 2\ntop_k = 3\n"
    )
    tls = TlsFiles(
        certificate="/etc/edgeward/tls.crt",
        key="/etc/edgeward/tls.key",
        client_ca="/etc/edgeward/clients.crt",
    )
    assert config.access("digits") == Access(
        tls=tls,
        hosts=("camera-1.example",),
        query_budget=QueryBudget(rows_per_hour=5, burst=2, tcp="refused"),
        outputs=OutputLimits(decimals=2, top_k=3),
    )
    assert config.access("other") == Access(
        tls=tls,
        hosts=("camera-1.example",),
        query_budget=QueryBudget(rows_per_hour=100, burst=10, tcp="shared"),
    )


def test_what_may_surprise_is_noted() -> None:
    budget = "[serving.query_budgets.digits]\nrows_per_hour = 5\nburst = 2\n"
    noted = list(serving('address = "10.0.0.4:8600"\n' + TLS + budget).notes())
    assert [note.split(" ")[0:2] for note in noted] == [["whoever", "reaches"], ["model", "digits"]]
    ca = 'client_ca = "/etc/edgeward/clients.crt"\n'
    assert list(serving('address = "10.0.0.4:8600"\n' + TLS + ca).notes()) == []
    assert list(serving('address = "127.0.0.1:8600"\n').notes()) == []
    assert list(serving(budget).notes()) == []


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8600", ("127.0.0.1", 8600)),
        ("[::1]:8600", ("::1", 8600)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_comes_apart(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts
