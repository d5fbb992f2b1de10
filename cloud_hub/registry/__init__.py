"""Releases: their files, their evidence, their state."""
