"""The fleet as a whole: what is wrong first, and what to do about it."""
