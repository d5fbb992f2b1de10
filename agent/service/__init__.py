"""The service: drives updates by executing the update machine's commands, and keeps device and hub in step.

It knows the other rooms only by the ports it names (``ports.py``); ``agent.daemon`` puts the real ones in.
"""
