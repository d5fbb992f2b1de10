"""Devices: enrolment, identity, what they report."""
