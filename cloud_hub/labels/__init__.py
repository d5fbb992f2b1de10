"""Labels for what devices answered: kept for a device until it has acknowledged them; what they say of a model."""
