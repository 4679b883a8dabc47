"""Lightship: a model and its requirements in, a small, reproducible, proven container image out."""

__version__ = "0.1.0"
