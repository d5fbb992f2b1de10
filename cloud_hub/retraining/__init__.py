"""From drift to deeds: requests to retrain a model, with their evidence, and notices about devices that tell nothing."""
