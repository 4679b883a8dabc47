"""Passwords of package indexes from the user's keyring, the way uv gets them: by the program `keyring`.

Asked only where uv is told to use it (`UV_KEYRING_PROVIDER` or `keyring-provider` is `subprocess`) and the URL of the
index names a user without a password; the downloads need what uv found out for itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping

_PATIENCE = 60.0  # seconds; a keyring may ask the user to unlock it


def keyring_password(url: str, user: str, environ: Mapping[str, str]) -> str | None:
    """The password of a user for a URL without login; None where the keyring is absent or has none."""
    program = shutil.which("keyring", path=environ.get("PATH"))
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "get", url, user],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = done.stdout.strip("\r\n")
    return found if done.returncode == 0 and found else None
