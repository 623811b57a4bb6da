"""IPsec by strongSwan: one charon for each tunnel end, in the node's own network namespace.

``algorithms`` and ``strongswan`` render (pure), ``vici_session`` talks, ``charon`` is the process, ``reasons`` reads its log,
``accounts`` keeps the SAs' counters over rekeys, ``line`` is the tunnel interface, ``negotiator`` says when to try again,
``status`` where the tunnel stands; ``agent`` is the daemon that joins them, ``settings`` what it is started with.

Two data planes carry the same connection description: the kernel's ESP with an xfrm interface, or charon's own ESP
(kernel-libipsec) behind a TUN device. ``harness.probe`` says which one this machine can run.
"""
