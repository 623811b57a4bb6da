"""The BGP-4 speaker: a core without I/O and without a clock, and a thin shell around it.

The core, from the wire inwards:

- ``errors``: NOTIFICATION codes, their names and meaning; ``prefixes``: families, NLRI as wire slices.
- ``as_path``, ``attributes``: values; ``attribute_table``: one row per path attribute; ``attribute_codec``: blocks of them.
- ``capabilities`` and ``session``: what two OPENs agree on; ``messages`` and ``update``: the codec.
- ``fsm_terms`` and ``fsm``: RFC 4271 section 8 as a table; ``signals``: what goes into a peer and what comes out.
- ``peer_config``, ``shared``, ``connection`` (one state machine at work), ``collision`` and ``peer`` (a neighbour).

Nothing in these modules reads a clock, opens a socket or sleeps.
"""
