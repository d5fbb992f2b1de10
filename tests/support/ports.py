"""Ports for servers that can't be handed a socket.

The kernel hands out ports from its ephemeral range to every outgoing connection of the machine, so a port of that range
that was free a moment ago may be somebody's source port when the server starts. These lie below the range.
"""

import os
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10240
_random = random.Random(
    os.urandom(8)
)  # a run's seed is shared by its workers, which must not draw the same ports
_given: set[int] = set()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on, that no outgoing connection is given and that this process gave to nobody."""
    highest = int(_EPHEMERAL.read_text().split()[0])
    while True:
        port = _random.randrange(_LOWEST, highest)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
