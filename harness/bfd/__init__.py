"""Bidirectional Forwarding Detection (RFC 5880) over one hop (RFC 5881) and several (RFC 5883), as a process beside the speaker.

``packet``, ``authentication``, ``fsm``, ``session`` and ``demux`` are the protocol without I/O and without a clock; ``shell`` is
UDP; ``daemon`` the process; ``companion`` the speaker's end of it. What does and does not exist: docs/bfd.md.
"""
