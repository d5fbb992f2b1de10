"""The device's one inference address, where it has two models or more.

A process of its own: ``__main__`` and ``process`` are its life, told by its control channel; ``router`` knows which model a
path names; ``upstream`` keeps connections to a model's Unix socket; ``aggregate`` answers what names no model. It parses no
tensor and holds no state, so a model's runner can be swapped behind it without its noticing.
"""
