"""May a few bytes be written to a socket right now, without any chance to block?

For plain TCP on Linux alone: a TLS socket is the writer thread's, and elsewhere nobody tells what
is queued. Only what is small goes this way: the core thread must not do a flood's writing, or every
other thread waits for it. The system takes more while what it has not sent, twice, is below
TCP_NOTSENT_LOWAT (agent/dial.py sets that); then the socket is writable, and so is the rest.
Source: tcp(7) TCP_NOTSENT_LOWAT, `SIOCOUTQNSD` in linux/sockios.h.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from agent.dial import NOTSENT_LOWAT

MAX_BYTES = 2048
_SIOCOUTQNSD = 0x894B


def may_go_express(sock: Any) -> bool:
    """Tell whether `has_room` can judge this socket."""
    return sys.platform == "linux" and type(sock) is socket.socket


def has_room(sock: socket.socket, size: int) -> bool:
    """Tell whether the system takes `size` more bytes at once."""
    if sys.platform != "linux":
        return False
    else:  # a branch, so that the type check for other systems leaves it out
        import fcntl  # not everywhere

        if size > MAX_BYTES:
            return False
        unsent = int.from_bytes(fcntl.ioctl(sock, _SIOCOUTQNSD, b"\0\0\0\0"), sys.byteorder)
        return (unsent + size) * 2 < NOTSENT_LOWAT
