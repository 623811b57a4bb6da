"""Whole speakers in a simulated network: a virtual clock, TCP in memory, and faults drawn from a seed.

Everything of the speaker runs but its sockets and its kernel: state machines, codec, tables, decision, policy, export.

- ``network``: the clock, nodes (the speaker's ``ports``), links; ``tcp``: connections with all that happens to real ones.
- ``schedule``: a seed becomes a topology, configurations and a list of disturbances: plain data.
- ``run``: carries a schedule out, waits until nothing moves, and asks ``invariants`` and ``reference``.
- ``reference``: what every table must hold at the end, computed another way and from the configuration alone.
- ``bugs``: realistic faults of a speaker, planted to see that all this finds them.

``python -m tests.simulation --help`` is the command.
"""
