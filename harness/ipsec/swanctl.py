"""One end of a tunnel as a ``swanctl.conf``, for a strongSwan that the lab does not run (ECMP-11).

The text holds the key. Who writes it to a file gives the file mode 0600. The lab's own charons get theirs over vici instead.
"""

from __future__ import annotations

from base64 import b64encode

from harness.ipsec.algorithms import esp_proposal, ike_proposal
from harness.plan import Tunnel

IF_ID = 1
"""Joins the connection to an xfrm interface: ``ip link add ipsec0 type xfrm if_id 1``."""


def quoted(text: str) -> str:
    """A string of strongSwan's settings grammar: in quotes, with backslash and quote escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def secret(key: str) -> str:
    """A key as swanctl takes it. One that begins with 0x or 0s, which swanctl would decode, goes in Base64 (ECMP-5)."""
    if key[:2].lower() in ("0x", "0s"):
        return quoted("0s" + b64encode(key.encode()).decode())
    return quoted(key)


def render(tunnel: Tunnel, name: str) -> str:
    """``swanctl.conf`` for this end. ``name`` is the connection's, of letters, digits and dashes. Raises UnknownAlgorithm."""
    return f"""\
connections {{
  {name} {{
    version = 2
    local_addrs = {tunnel.local}
    remote_addrs = {tunnel.remote}
    proposals = {ike_proposal(tunnel.ike)}
    rekey_time = {tunnel.ike.lifetime}s
    mobike = no
    encap = yes
    dpd_delay = {tunnel.dpd_delay:.0f}s
    if_id_in = {IF_ID}
    if_id_out = {IF_ID}
    local {{
      auth = psk
      id = {tunnel.local_id}
    }}
    remote {{
      auth = psk
      id = {tunnel.remote_id}
    }}
    children {{
      {name} {{
        esp_proposals = {esp_proposal(tunnel.esp)}
        rekey_time = {tunnel.esp.lifetime}s
        local_ts = 0.0.0.0/0
        remote_ts = 0.0.0.0/0
        start_action = start
      }}
    }}
  }}
}}
secrets {{
  ike-{name} {{
    id-1 = {tunnel.local_id}
    id-2 = {tunnel.remote_id}
    secret = {secret(tunnel.key)}
  }}
}}
"""
