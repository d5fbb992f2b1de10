"""Serving, side by side: our runner, real Triton, MLServer and a bare echo server under one client, in one run.

``servers`` are what is measured (``edgeward``, ``triton``, ``mlserver``, ``echo``), ``load`` the client processes, ``rounds``
who is measured when, ``pairs`` what the numbers mean, ``targets`` what is promised, ``table`` how it is shown. Beside the
requests: ``memory`` and ``spawn``.
"""
