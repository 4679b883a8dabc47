"""Benchmarks of servers: ours beside its peers, same model, same cores, in one run, alternating, with medians.

`peers/` holds each peer's small application and its pinned requirements; nothing here is imported by the packages.
"""
