"""Patches: make them on the hub, apply them on the device; bytes in, bytes out. ``docs/deltas.md`` has the format.

A device imports :mod:`agent.delta.apply` alone: it needs neither NumPy nor more than a few chunks of memory.
"""
