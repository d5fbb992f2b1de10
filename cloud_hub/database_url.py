"""The URL of a database in ``hub.toml``."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cloud_hub.errors import ConfigError

POSTGRESQL = "postgresql+psycopg"


def check_url(url: str) -> None:
    """Raises ConfigError unless it names a PostgreSQL without telling its password."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"database: not a URL; allowed: {POSTGRESQL}://user@host:5432/name") from error
    if parsed.drivername != POSTGRESQL:
        raise ConfigError(
            f"database = {parsed.render_as_string()!r}: allowed is {POSTGRESQL}://user@host:5432/name; "
            "without the setting it is an SQLite file in the data folder"
        )
    if parsed.password is not None or "password" in parsed.query:
        raise ConfigError(
            "database: the URL tells its password to everyone who reads this file; leave it to PGPASSWORD, to ~/.pgpass, "
            "or to a file of that form that the URL names: ?passfile=/run/credentials/…"
        )
