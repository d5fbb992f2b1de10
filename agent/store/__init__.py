"""Everything a device remembers: durable files, artifacts, databases.

Three databases, so that the least important one can break without touching the others:

- ``trust.db`` (:mod:`agent.store.trust_db`): verified metadata, high-water marks, hub-signed time;
- ``state.db`` (:mod:`agent.store.state`): update machine and slots;
- ``telemetry.db`` (:mod:`agent.store.database`): events, drift windows, outbox. Damaged, it is set aside and a new one
  starts a new epoch.

The first two are small and keep a checksummed mirror file (:mod:`agent.store.mirrored`); neither is ever reset in silence.
"""
