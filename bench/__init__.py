"""Benchmarks: what the lab's own work costs, beside its rivals, in one run on one machine.

Seconds say little about another machine, ratios say a lot: a rival is measured in the same run as our own work, never quoted from an
older one. Each module of this package declares its benchmarks with `registry.benchmark`; `python -m bench` runs them, prints one
table and writes `reports/out/bench.json`.
"""
