"""Inputs that approvers ask devices for: requests, answers, and the samples themselves, kept apart from other telemetry."""
