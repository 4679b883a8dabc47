"""The command line: one file per command; each parses, calls a function that anybody can import, and renders.

Nothing here decides anything. May import everything; nothing imports it.
"""

from lightship.cli.main import main

__all__ = ["main"]
