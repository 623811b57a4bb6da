"""From a tunnel of the plan to what charon is told: its ``strongswan.conf`` and its vici messages. Pure text and dictionaries.

No secret goes into a file: the connection and its key travel over vici (RFC 7296 for what they mean, ECMP-6 for the values).
Not here: running charon (``charon``), talking to it (``vici_session``).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.ipsec.algorithms import esp_proposal, ike_proposal
from harness.patience import stretched
from harness.plan import Tunnel

Message = dict[str, Any]

TUN_NAME = "ipsec0"
"""What charon calls its TUN device. It installs a route by this name with every CHILD_SA, so the device must keep it."""

TUN_MTU = 1400
"""The size of charon's read buffer for the TUN device: longer packets would be cut."""

IF_ID = 1
"""The xfrm interface's id. One for all: a namespace holds one tunnel end."""

REPLAY_WINDOW = 1024
"""Packets by which one may come late (RFC 4303 3.4.3). Two processors that encrypt for one SA overtake each other: where one of them has to
wait, by more than charon's own 32, and the kernel drops what is late. libipsec has a window of its own."""

_COMMON = ("random", "nonce", "aesni", "aes", "sha1", "sha2", "hmac", "kdf", "openssl", "gmp", "socket-default")
"""In order of preference: with aesni behind aes and openssl, ESP in user space runs at half the speed."""

_THROW_MARK = "0x7ffffff0"
"""kernel-libipsec routes everything into its TUN (table 220) whatever ``install_routes`` says; with a mark that no packet
carries its rule matches nothing, and the node's own routes decide."""


_COMPUTING = 2.0
"""Seconds: a hundred times what two healthy ends take for a negotiation."""

_LONGEST_ANSWER = 4.0
"""Seconds: what a plan has where a lab says nothing, and enough for any machine."""


class TunnelError(ValueError):
    """A tunnel that strongSwan cannot be given: the text names the tunnel, the rule and the remedy."""


class DataPlane(StrEnum):
    """Who encrypts: the kernel behind an xfrm interface, or charon itself behind a TUN device."""

    XFRM = "xfrm"
    LIBIPSEC = "libipsec"


_PLUGINS = {
    DataPlane.XFRM: (*_COMMON, "kernel-netlink", "vici"),
    DataPlane.LIBIPSEC: (*_COMMON, "kernel-libipsec", "kernel-netlink", "vici"),
}


def check(tunnel: Tunnel, plane: DataPlane) -> None:
    """Refuses what the data plane cannot carry. Raises TunnelError."""
    if tunnel.dpd_delay != int(tunnel.dpd_delay) or tunnel.dpd_delay < 0:
        raise TunnelError(
            f"tunnel {tunnel.name}: DPD delay {tunnel.dpd_delay:g} s; charon counts in whole seconds (0: no DPD), use one"
        )
    if plane is DataPlane.LIBIPSEC and tunnel.interface != TUN_NAME:
        raise TunnelError(
            f"tunnel {tunnel.name}: interface {tunnel.interface!r} cannot be had on the libipsec data plane, where charon finds "
            f"its TUN device by the name {TUN_NAME}; call it so"
        )
    if plane is DataPlane.LIBIPSEC and tunnel.mtu > TUN_MTU:
        raise TunnelError(
            f"tunnel {tunnel.name}: MTU {tunnel.mtu} is over the {TUN_MTU} that charon reads from its TUN device; lower it"
        )


def daemon_configuration(tunnel: Tunnel, plane: DataPlane, vici_socket: Path, log_level: int = 1) -> str:
    """The ``strongswan.conf`` of one charon: the whole of it, so that nothing of the machine's own is read.

    ``load`` is spelled out because the default list opens files under /run that all instances would share. The log goes to
    stderr. Retransmissions come at even intervals (base 1.0), so that a dead peer is known after
    ``dpd_delay + (retransmit_tries + 1) * answer_time`` at the latest. A packet that met a trap silences the
    next ones for as long as one negotiation may take, no longer: charon's own 165 s would let a failure stand as long.
    Raises TunnelError for a path that the file's grammar cannot hold.
    """
    if not re.fullmatch(r"/[\w./+@-]+", str(vici_socket)):
        raise TunnelError(f"vici socket {vici_socket}: use an absolute path of letters, digits and . _ - + @ only")
    return f"""\
charon-systemd {{
  load = {" ".join(_PLUGINS[plane])}
  install_routes = no
  install_virtual_ip = no
  dos_protection = no
  retransmit_base = 1.0
  retransmit_timeout = {answer_time(tunnel):g}
  retransmit_tries = {tunnel.retransmit_tries}
  journal {{
    default = -1
  }}
  filelog {{
    stderr {{
      default = {log_level}
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{vici_socket}
    }}
    kernel-netlink {{
      fwmark = {_THROW_MARK}
      roam_events = no
      xfrm_acq_expires = {acquire_lifetime(tunnel)}
    }}
  }}
}}
"""


def answer_time(tunnel: Tunnel) -> float:
    """Seconds that charon waits for an answer before it repeats the message: the tunnel's, longer on a slow machine.

    A lab that measures fail-over shortens them to a few times what an answer takes at full speed. On an emulated machine under load the
    same answer came later than all repetitions, and a healthy tunnel was taken for dead.
    """
    return max(tunnel.retransmit_timeout, min(stretched(tunnel.retransmit_timeout), _LONGEST_ANSWER))


def patience_with_peer(tunnel: Tunnel) -> float:
    """Seconds after which a peer that answers no message is called dead: all retransmissions of one."""
    return (tunnel.retransmit_tries + 1) * answer_time(tunnel)


def acquire_lifetime(tunnel: Tunnel) -> int:
    """Seconds of one negotiation at most: all retransmissions of one message, and what the ends themselves need for the others."""
    return math.ceil(patience_with_peer(tunnel) + stretched(_COMPUTING))


@dataclass(frozen=True, slots=True)
class Rekeying:
    """When an end replaces an SA: ``at`` seconds after it was made less up to ``jitter``, and the end of it at ``hard``."""

    at: int
    jitter: int
    hard: int


def rekeying(lifetime: int, *, initiates: bool) -> Rekeying:
    """The times of an SA of ``lifetime`` seconds (ECMP-6).

    Where both ends have one lifetime, which IKEv2 does not negotiate, the end that initiates comes first, within the last tenth,
    and the other at the full lifetime, if it still has to. Both at once would be a collision (RFC 7296 2.8.1), which charon does
    not always settle without closing an SA that still carries traffic. Whole seconds: charon counts in them.
    """
    hard = lifetime + max(10, lifetime // 10)
    if not initiates or lifetime < 2:
        return Rekeying(lifetime, 0, hard)
    ahead = max(1, lifetime // 100)
    return Rekeying(lifetime - ahead, max(0, lifetime // 10 - ahead), hard)


def connection(tunnel: Tunnel) -> Message:
    """The vici ``load-conn`` message: the same for both data planes (libipsec takes no notice of the interface ids).

    charon itself tries once and gives up: to try again, and when, is the agent's business (ECMP-30), which sees the reasons.
    """
    initiates = tunnel.initiate != "none"
    ike, esp = (rekeying(lifetime, initiates=initiates) for lifetime in (tunnel.ike.lifetime, tunnel.esp.lifetime))
    child = {
        "esp_proposals": [esp_proposal(each) for each in (tunnel.esp, *tunnel.esp_offers)],
        "local_ts": ["0.0.0.0/0"],
        "remote_ts": ["0.0.0.0/0"],
        "mode": "tunnel",
        "replay_window": str(REPLAY_WINDOW),
        "rekey_time": f"{esp.at}s",
        "rand_time": f"{esp.jitter}s",
        "life_time": f"{esp.hard}s",
        "if_id_in": str(IF_ID),
        "if_id_out": str(IF_ID),
        "start_action": "none",
        "close_action": "none",
        "dpd_action": "clear",
    }
    return {
        tunnel.name: {
            "version": "2",
            "local_addrs": [tunnel.local],
            "remote_addrs": [tunnel.remote],
            "proposals": [ike_proposal(each) for each in (tunnel.ike, *tunnel.ike_offers)],
            "rekey_time": f"{ike.at}s",
            "rand_time": f"{ike.jitter}s",
            "over_time": f"{ike.hard - ike.at}s",
            "encap": "yes",
            "mobike": "no",
            "keyingtries": "1",
            "dpd_delay": f"{tunnel.dpd_delay:.0f}s",
            "local": {"auth": "psk", "id": tunnel.local_id},
            "remote": {"auth": "psk", "id": tunnel.remote_id},
            "children": {tunnel.name: child},
        }
    }


def shared_key(tunnel: Tunnel) -> Message:
    """The vici ``load-shared`` message. The key goes as it is: vici gives no meaning to a leading 0x or 0s (ECMP-5)."""
    return {
        "id": tunnel.name,
        "type": "IKE",
        "data": tunnel.key.encode(),
        "owners": [tunnel.local_id, tunnel.remote_id],
    }


def peer_shared_key(tunnel: Tunnel, *, alone: bool) -> Message:
    """The key that the peer has to prove, of a tunnel with two.

    charon signs with the key whose owners fit best and takes any that fits for the peer's proof. ``alone`` it is both; beside
    :func:`shared_key` it is owned by the peer only, so that it is never signed with.
    """
    owners = [tunnel.local_id, tunnel.remote_id] if alone else [tunnel.remote_id]
    return {"id": f"{tunnel.name} peer", "type": "IKE", "data": (tunnel.peer_key or "").encode(), "owners": owners}


PROBE_TUNNEL = Tunnel(
    name="probe",
    local="127.0.0.1",
    remote="127.0.0.2",
    local_id="127.0.0.1",
    remote_id="127.0.0.2",
    key="",
    interface=TUN_NAME,
    address="169.254.255.1/30",
    initiate="none",
)
"""A tunnel to nowhere: enough to start a charon and ask it what it can do."""
