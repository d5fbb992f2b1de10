"""The whole hub on PostgreSQL: what the unit suite asks of it on SQLite, of the parts that lean on the database most."""

import pytest
from sqlalchemy import text

from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.audit.chain import verify
from cloud_hub.errors import ConfigError
from cloud_hub.hub import Hub
from hw_bench.ingest.postgresql import PostgreSQL
from tests.unit.cloud_hub.approvals.test_drafts import (
    test_a_new_base_voids_the_signatures_and_the_draft_is_made_anew,
    test_the_database_takes_no_second_draft_of_a_model,
)
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.test_app import (
    fleet,
    test_a_refusing_canary_pauses_the_rollout_and_rollback_names_the_release_before,
    test_a_rollout_goes_stage_by_stage_and_completes,
    test_an_enrolment_token_works_once_and_for_its_device_only,
    test_every_deed_is_in_the_audit_log_and_the_export_verifies,
)
from tests.unit.cloud_hub.test_drift import test_the_fleet_is_merged_and_each_device_stands_by_itself

__all__ = [
    "fleet",
    "test_a_new_base_voids_the_signatures_and_the_draft_is_made_anew",
    "test_a_refusing_canary_pauses_the_rollout_and_rollback_names_the_release_before",
    "test_a_rollout_goes_stage_by_stage_and_completes",
    "test_an_enrolment_token_works_once_and_for_its_device_only",
    "test_every_deed_is_in_the_audit_log_and_the_export_verifies",
    "test_the_database_takes_no_second_draft_of_a_model",
    "test_the_fleet_is_merged_and_each_device_stands_by_itself",
]


def test_it_is_postgresql_and_the_command_line_writes_into_the_same_chain(people: People, hub: Hub) -> None:
    assert isinstance(hub.paths.database, str)
    said = hub.database.read(lambda session: str(session.execute(text("SELECT version()")).scalar_one()))
    assert said.startswith("PostgreSQL")
    assert not (hub.paths.data / "hub.db").exists()
    setup.new_token(hub.paths.database, name="from-outside", role=Role.VIEWER)
    lines = people.call("auditor", "GET", "/v1/audit/export").content.splitlines()
    assert b"from-outside" in lines[-1]
    assert verify(lines).problem is None


def test_a_database_that_cannot_hold_every_text_is_refused(postgresql: PostgreSQL) -> None:
    url = postgresql.create("plain_bytes", "--encoding=SQL_ASCII", "--locale=C", "--template=template0")
    with pytest.raises(ConfigError, match=r"SQL_ASCII.*createdb --encoding=UTF8"):
        setup.new_token(url, name="somebody", role=Role.VIEWER)


def test_one_that_is_not_there_is_refused_in_words(postgresql: PostgreSQL) -> None:
    url = f"postgresql+psycopg://postgres@/nowhere?host={postgresql.folder}"
    with pytest.raises(ConfigError, match=r"database: PostgreSQL does not take the hub: .*nowhere"):
        setup.new_token(url, name="somebody", role=Role.VIEWER)
