"""Other people's BGP daemons in a node's place: FRR, BIRD, GoBGP and ExaBGP, as Debian ships them.

Each is rendered from the configuration of our own speaker (``harness.bgp.config``), runs as children of an :mod:`agent
<harness.daemons.agent>` in the node's network namespace, and is asked and followed through the control socket that our own speaker
has. What each can do is data: :mod:`harness.daemons.kinds`.
"""
