"""May a few bytes be written to a socket right now, without any chance to block?

For plain TCP on Linux alone: a TLS socket is the writer thread's, and elsewhere nobody tells what
is queued. Half of the send buffer stays free, because the system counts its own overhead in it.
Source: tcp(7) SIOCOUTQ, socket(7) SO_SNDBUF.
"""

from __future__ import annotations

import socket
import sys
from typing import Any


def may_go_express(sock: Any) -> bool:
    """Tell whether `has_room` can judge this socket."""
    return sys.platform == "linux" and type(sock) is socket.socket


def has_room(sock: socket.socket, size: int) -> bool:
    """Tell whether the system takes `size` more bytes at once."""
    if sys.platform != "linux":
        return False
    else:  # a branch, so that the type check for other systems leaves it out
        import fcntl  # not everywhere
        import termios

        queued = int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
        return (queued + size) * 2 < sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
