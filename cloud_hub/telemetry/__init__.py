"""Telemetry: what devices recorded, stored once, and the fleet's drift."""
