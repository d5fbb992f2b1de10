"""The composition root's own small decisions."""

import asyncio
import importlib.metadata
import importlib.util
import sqlite3
from pathlib import Path

import pytest

from agent import daemon
from agent.protocol.enrolment import BrokerAddress
from agent.store.errors import StoreError
from agent.transport.errors import IdentityMissingError
from agent.transport.identity_files import IdentityFiles


def test_a_runtime_counts_when_one_of_its_modules_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*names: str) -> frozenset[str]:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in names else None)
        return daemon._runtimes()

    assert installed() == frozenset()
    assert installed("onnxruntime") == {"onnx"}
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.2.0")
    assert installed("tflite_runtime") == frozenset()  # it can't load a model beside NumPy 2
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.26.4")
    assert installed("tflite_runtime") == {"tflite"}
    assert installed("onnxruntime", "ai_edge_litert") == {"onnx", "tflite"}


async def test_the_telemetry_database_is_made_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert await daemon._migrate(tmp_path) is None
    assert await daemon._migrate(tmp_path) is None, "and migrating again changes nothing"
    with sqlite3.connect(tmp_path / "telemetry.db") as connection:
        tables = {row[0] for row in connection.execute("select name from sqlite_master where type='table'")}
    connection.close()
    assert tables


def test_a_damaged_telemetry_database_is_kept_and_told(tmp_path: Path) -> None:
    (tmp_path / "telemetry.db").write_bytes(b"this is not a database" * 100)
    note = asyncio.run(daemon._migrate(tmp_path))
    assert note is not None
    assert "was damaged" in note
    aside = [path for path in tmp_path.iterdir() if path.read_bytes().startswith(b"this is not")]
    assert len(aside) == 1
    assert aside[0].name in note


async def test_a_folder_that_cant_be_used_is_a_store_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"telemetry\.db: "):
        await daemon._migrate(tmp_path / "file" / "state")


def test_certificates_are_used_only_where_the_broker_has_tls(tmp_path: Path) -> None:
    files = IdentityFiles.within(tmp_path)
    plain = daemon._link_settings(BrokerAddress(host="127.0.0.1", port=1883, tls=False), files)
    assert (plain.host, plain.port, plain.tls) == ("127.0.0.1", 1883, None)
    with pytest.raises(IdentityMissingError, match="enrol it"):
        daemon._link_settings(BrokerAddress(host="broker", port=8883, tls=True), files)
    for path in (files.key, files.certificate, files.authority):
        path.write_text("")
    secure = daemon._link_settings(BrokerAddress(host="broker", port=8883, tls=True), files)
    assert secure.tls is not None
