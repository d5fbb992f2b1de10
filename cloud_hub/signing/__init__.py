"""The TUF repository and its keys: which releases are approved, which device runs what, and who signed it.

The hub holds the online key and the director's key. Offline and approvers' keys are files (or tokens, or cloud
keys) of people; their commands use :mod:`cloud_hub.signing.ceremony` and :mod:`cloud_hub.approvals.client`.
"""
