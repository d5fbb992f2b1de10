"""The Edgeward agent: serves models on a device under budgets, watches them drift, and takes signed updates."""
