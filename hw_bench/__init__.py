"""Measures the variants of a release on the hardware it stands on: latency, throughput and memory, as evidence."""
