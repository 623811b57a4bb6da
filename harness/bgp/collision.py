"""Which of two connections to one neighbour stays (RFC 4271 6.8, RFC 6286 2.3): the rules, and the one comparison they rest on.

So that both sides always keep the same connection:

- A connection takes part once the peer's OPEN has arrived on it. The one that the side with the higher BGP Identifier (the
  higher AS number where they are equal) initiated stays, whatever states the two are in, Established included
  (CollisionDetectEstablishedState): both sides know the same two numbers, so neither order of arrival nor timing matters.
- An OPEN on a connection that would lose against one whose OPEN is still due waits for that, so that no session comes up
  only to be replaced; for at most ``collision_wait``.
- A dial still under way when an OPEN arrives on an accepted connection is given up: nothing was sent on it yet.
- Of two connections initiated by the same side the newer stays, unless the older is Established.

:mod:`harness.bgp.peer` keeps the two connections and calls :func:`stays`.
"""

from __future__ import annotations

from harness.bgp.fsm import State
from harness.bgp.messages import Open
from harness.bgp.peer_config import PeerConfig


def stays(config: PeerConfig, received: Open, outgoing: bool, other_outgoing: bool, other_state: State) -> bool:
    """Whether a connection stays against the other, given the OPEN that came on it.

    ``outgoing``: we initiated it; the same of the other; and the state the other is in.
    """
    if outgoing == other_outgoing:
        return other_state is not State.ESTABLISHED
    ours = (int(config.identifier), config.local_asn)
    theirs = (int(received.identifier), received.true_asn)
    return outgoing == (ours > theirs)
