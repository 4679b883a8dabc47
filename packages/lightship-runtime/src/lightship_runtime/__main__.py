"""The image's entrypoint: `python -m lightship_runtime`."""

from __future__ import annotations

from lightship_runtime.init import become_child_of_init


def run() -> int:
    """Serve, in a child where this is process 1; the exit status."""
    become_child_of_init()  # first, so that what stays behind as process 1 has imported next to nothing

    import os
    import sys

    from lightship_runtime.serve import main

    return main(os.environ, sys.stderr)


if __name__ == "__main__":
    raise SystemExit(run())
