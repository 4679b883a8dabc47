"""What the last words of a server say."""

from __future__ import annotations

import pytest

from lightship.verify import cause_of


@pytest.mark.parametrize(
    ("logs", "reason", "hint"),
    [
        (
            "python3: error while loading shared libraries: libpq.so.5: cannot open shared object file: No such file",
            "libpq.so.5 is not in the image",
            '"libpq5"',
        ),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "libGL.so.1 is not in the image",
            '"libgl1"',
        ),
        ("ImportError: libodd-2.so.7: cannot open shared object file", "libodd-2.so.7", "brings libodd-2.so.7"),
        ("ImportError: libcudnn.so.9: cannot open shared object file", "libcudnn.so.9", "same CUDA version"),
        ("ModuleNotFoundError: No module named 'yaml.loader'", "yaml.loader is not", "Add pyyaml"),
        (
            "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /opt/x.so)",
            "needs GLIBC_2.38",
            "newer base",
        ),
        ("OSError: [Errno 98] Address already in use", "port", "--port"),
        ("OSError: [Errno 30] Read-only file system: '/home/app/.cache'", "/home/app/.cache", "/tmp"),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "may not use /data", "1023"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "memory", "memory"),
    ],
)
def test_plain_causes_are_named(logs: str, reason: str, hint: str) -> None:
    cause = cause_of(f"starting\n{logs}\n", 1)
    assert cause is not None
    assert reason in cause.reason
    assert hint in cause.hint


@pytest.mark.parametrize(
    ("status", "word"), [(137, "SIGKILL"), (139, "SIGSEGV"), (132, "SIGILL"), (127, "not found")]
)
def test_a_status_speaks_where_the_log_does_not(status: int, word: str) -> None:
    cause = cause_of("started\n", status)
    assert cause is not None
    assert word in cause.reason


def test_the_last_of_several_causes_counts() -> None:
    logs = "ModuleNotFoundError: No module named 'uvloop'\ngoing on\nModuleNotFoundError: No module named 'torch'\n"
    cause = cause_of(logs)
    assert cause is not None
    assert "torch" in cause.reason


@pytest.mark.parametrize(
    ("logs", "status"), [("", 1), ("all is well", None), ("no module named x; cannot open the file", 3)]
)
def test_what_is_not_plain_is_not_guessed(logs: str, status: int | None) -> None:
    assert cause_of(logs, status) is None


def test_a_log_made_to_be_slow_to_read_is_read() -> None:
    assert cause_of("lib" * 350_000, 1) is None  # quadratic time would be hours
