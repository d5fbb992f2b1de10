"""Approvals: one open draft a model, and the signatures on it."""
