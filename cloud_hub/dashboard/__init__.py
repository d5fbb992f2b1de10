"""The page for people: what is wrong first."""
