"""What we ask of the kernel's queues (``uapi/linux/pkt_sched.h``): netem for delay, jitter and loss, tbf for a rate.

Pure functions to :class:`~harness.net.netlink.Request`, as in ``requests``. Which of them a link needs is ``queues``'s to say.
"""

from __future__ import annotations

import socket
import struct

from harness.net.netlink import Flag, Request, attribute, nested, text, u32
from harness.net.requests import TCMSG, Rtm

ROOT = 0xFFFFFFFF
NETEM = 0x0001_0000
"""The handle that a netem queue is given, 1: in tc's words."""
INSIDE_NETEM = NETEM | 1
"""The one class of it, 1:1: the parent of a queue that packets enter when their delay is over."""

_REPLACE = Flag.ACK | Flag.CREATE | Flag.REPLACE
_KIND, _OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_NETEM_LATENCY64, _NETEM_JITTER64 = 10, 11
_ETHERNET = 1
_CERTAIN = 0xFFFFFFFF  # a probability of 1 in netem's fractions
IN_FLIGHT = 1 << 24
"""netem's limit in packets. What is on a long line is no queue: nothing is to be lost for its number."""


def token_bucket(
    ifindex: int, *, rate_mbit: float, burst: int = 15_000, latency_s: float = 0.05, parent: int = ROOT
) -> Request:
    """A tbf queue: ``rate_mbit`` Mbit/s, ``burst`` octets, packets that would wait over ``latency_s`` are dropped."""
    rate = round(rate_mbit * 1e6 / 8)
    burst = max(burst, rate // 250)  # a timer tick of 4 ms must not starve the bucket
    limit = round(rate * latency_s) + burst
    low = min(rate, 0xFFFFFFFF)
    ratespec = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, low)
    options = attribute(_TBF_PARMS, ratespec + bytes(12) + struct.pack("=III", limit, 0, 0)) + u32(_TBF_BURST, burst)
    if rate > low:
        options += attribute(_TBF_RATE64, struct.pack("=Q", rate))
    body = TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0) + text(_KIND, "tbf") + nested(_OPTIONS, options)
    return Request(f"limit link {ifindex} to {rate_mbit:g} Mbit/s", Rtm.NEWQDISC, _REPLACE, body)


def netem(ifindex: int, *, delay_ms: float = 0.0, jitter_ms: float = 0.0, loss_percent: float = 0.0) -> Request:
    """The root queue that delays each packet by ``delay_ms``, more or less ``jitter_ms``, and loses ``loss_percent`` of them."""
    loss = round(loss_percent / 100 * _CERTAIN)
    options = struct.pack("=6I", 0, IN_FLIGHT, loss, 0, 0, 0)
    options += attribute(_NETEM_LATENCY64, struct.pack("=q", round(delay_ms * 1e6)))
    options += attribute(_NETEM_JITTER64, struct.pack("=q", round(jitter_ms * 1e6)))
    body = TCMSG.pack(socket.AF_UNSPEC, ifindex, NETEM, ROOT, 0) + text(_KIND, "netem") + attribute(_OPTIONS, options)
    words = f"delay {delay_ms:g} ms, jitter {jitter_ms:g} ms, loss {loss_percent:g} %"
    return Request(f"give link {ifindex} {words}", Rtm.NEWQDISC, _REPLACE, body)


def no_queue(ifindex: int) -> Request:
    """Takes the root queue away, and what is in it. ENOENT where there is none."""
    body = TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, ROOT, 0)
    return Request(f"take the queues of link {ifindex} away", Rtm.DELQDISC, Flag.ACK, body)
