"""The verifier: a short-lived child that parses untrusted metadata, and says what this device may install.

``python -m agent.trust --fd N`` speaks :mod:`agent.protocol.verification` over a socket pair; it fetches and stores nothing itself.
"""
