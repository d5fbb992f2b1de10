"""Ingest: devices' telemetry is validated, stored once, committed, and only then acknowledged."""
