"""Tell other systems what happened: signed, retried, bounded, each event under an id that never changes."""
