"""Bundles for devices without a network, and the receipts that come back."""
