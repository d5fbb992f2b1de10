"""How many telemetry batches a second the hub takes, beside what a bare subscriber and the broker itself can do."""
