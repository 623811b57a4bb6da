"""Scenarios of two to four speakers, each written once and run twice: over links in memory on a virtual clock, and over network
namespaces with real processes, sockets and kernel routes.

``stage`` says what a scenario can do; ``memory`` and ``namespaces`` are the two places it can do it in.
"""
