"""Artifacts over HTTPS for devices: signed locations, ranges, a listener of their own."""
