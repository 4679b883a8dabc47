"""The image's entrypoint: `python -m lightship_runtime`."""

from __future__ import annotations


def run() -> int:
    """Serve until told to stop; the exit status."""
    import os
    import sys

    from lightship_runtime.serve import main

    return main(os.environ, sys.stderr)


if __name__ == "__main__":
    raise SystemExit(run())
