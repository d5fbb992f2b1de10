"""Alembic's entry point; :meth:`cloud_hub.database.Database.migrate` hands in the connection."""

from alembic import context

from cloud_hub import tables

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=tables.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
