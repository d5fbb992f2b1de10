"""Who may do what: bearer tokens with a role."""
