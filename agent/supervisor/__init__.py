"""Starts, measures, swaps and stops the processes of a device: one runner per model slot, and the verifier child.

``ModelServer`` is the door for serving, ``verify`` for checking, ``sample`` for the device's own health. Nothing here
decides what should run; that is :mod:`agent.core`. No model code and no untrusted metadata is ever read in this process.
"""
