"""Benchmarks: each prints what it measured, side by side in one run, alternating, with medians."""
