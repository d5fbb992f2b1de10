"""Rollouts: one release to the fleet, in stages."""
