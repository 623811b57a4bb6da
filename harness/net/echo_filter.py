"""A socket filter that leaves in a routing daemon's netlink notifications what others did, and nothing else about its own routes.

The kernel stamps each notification with the port of the socket whose request caused it, 0 for its own doing. Dropped before they are
queued: the daemon's own changes (it writes routes by the hundred thousand and cannot afford to read its echo), and the kernel's
removal of the daemon's routes with their link. The latter is told for IPv6 and not for IPv4; a daemon that treats the link's own
notification as the removal needs neither, and could not tell it from a deletion by somebody else afterwards.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

from harness.net.requests import Rtm

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
_KEEP_ALL = 0xFFFFFFFF
# Offsets: struct nlmsghdr is 16 octets with nlmsg_type at 4 and nlmsg_pid at 12; struct rtmsg follows, rtm_protocol at 5.
_TYPE, _PORT, _ROUTE_PROTOCOL = 4, 12, 21


def ignore_own(listener_fd: int, writer_fds: Sequence[int], protocol: int) -> None:
    """``listener_fd`` no longer gets what the requests of ``writer_fds`` cause, nor the kernel's removal of routes of ``protocol``."""
    ports = [_port(writer) for writer in writer_fds]
    # Words and halves are loaded in network order, and the kernel wrote them in the machine's. Jumps count from the next step.
    program = b"".join(
        _INSTRUCTION.pack(*step)
        for step in (
            (_LOAD_WORD, 0, 0, _PORT),
            *((_JUMP_EQUAL, 5 + len(ports) - n, 0, socket.htonl(port)) for n, port in enumerate(ports)),
            (_JUMP_EQUAL, 0, 4, 0),
            (_LOAD_HALF, 0, 0, _TYPE),
            (_JUMP_EQUAL, 0, 2, socket.htons(Rtm.DELROUTE)),
            (_LOAD_BYTE, 0, 0, _ROUTE_PROTOCOL),
            (_JUMP_EQUAL, 1, 0, protocol),
            (_RETURN, 0, 0, _KEEP_ALL),
            (_RETURN, 0, 0, 0),
        )
    )
    code = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(code))
    with socket.socket(fileno=os.dup(listener_fd)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def _port(writer_fd: int) -> int:
    with socket.socket(fileno=os.dup(writer_fd)) as writer:
        port, _groups = writer.getsockname()
    return int(port)
