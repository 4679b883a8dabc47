"""Why a container ended: the few causes that its last words or its exit status name without doubt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """What went wrong and what to do, each a sentence."""

    reason: str
    hint: str


# Debian's packages of the libraries that Python wheels expect to find on a system (ldd of the wheels that lack them).
_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libgfortran.so.5": "libgfortran5",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libopenblas.so.0": "libopenblas0",
    "libpq.so.5": "libpq5",
    "libsndfile.so.1": "libsndfile1",
    "libstdc++.so.6": "libstdc++6",
    "libxcb.so.1": "libxcb1",
}
# Modules whose package has another name.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def _library(match: re.Match[str]) -> Cause:
    library = match["name"]
    if re.match(r"libcu|libnv", library):
        hint = "It belongs to CUDA: the requirements and the base must bring the same CUDA version."
    elif package := _PACKAGES.get(library):
        hint = f'Add the Debian package that brings it: [base] packages = ["{package}"].'
    else:
        hint = f'Add the Debian package that brings {library}: [base] packages = ["..."].'
    return Cause(f"the shared library {library} is not in the image", hint)


def _module(match: re.Match[str]) -> Cause:
    module = match["name"].split(".")[0]
    package = _DISTRIBUTIONS.get(module, module)
    hint = f"Add {package} to the requirements, or the file to the project where it is your own."
    return Cause(f"the Python module {match['name']} is not in the image", hint)


def _plain(reason: str, hint: str) -> Callable[[re.Match[str]], Cause]:
    return lambda match: Cause(reason.format(**match.groupdict()), hint.format(**match.groupdict()))


_LAST_WORDS = tuple(
    (re.compile(pattern, re.MULTILINE), explain)
    for pattern, explain in (
        (r"(?P<name>lib[\w.+-]{1,100}\.so[\w.]{0,30}): cannot open shared object file", _library),
        (r"^ModuleNotFoundError: No module named '(?P<name>[\w.]+)'", _module),
        (
            r"version `(?P<name>(?:GLIBC|GLIBCXX|CXXABI)_[\w.]+)' not found",
            _plain(
                "a library in the image was built for a newer system: it needs {name}",
                "Take a newer base, such as debian:trixie, or an older version of the package.",
            ),
        ),
        (
            r"[Aa]ddress already in use|EADDRINUSE",
            _plain("the port that the server wants is in use", "Stop what listens there, or choose another --port."),
        ),
        (
            r"Read-only file system: '(?P<name>[^'\n]+)'",
            _plain(
                "the server writes to {name}, and a container's file system is read-only here",
                "Write to /tmp, or point the library's cache there with a variable in [image.environment].",
            ),
        ),
        (
            r"PermissionError: \[Errno 13\] Permission denied: '(?P<name>[^'\n]+)'",
            _plain(
                "the image's user, which is not root, may not use {name}",
                "Write to /tmp, and let the server listen on a port above 1023.",
            ),
        ),
        (
            r"^MemoryError\b|Cannot allocate memory|std::bad_alloc",
            _plain(
                "the memory is not enough", "Give the machine or the container more memory, or load fewer copies."
            ),
        ),
    )
)
_STATUSES = {
    126: Cause("its program may not be executed (exit status 126)", "Is the entrypoint executable for everybody?"),
    127: Cause("its program was not found (exit status 127)", "Is the entrypoint in the image, and its interpreter?"),
    132: Cause(
        "it used an instruction that this processor lacks (SIGILL, exit status 132)",
        "A wheel was built for newer processors; take a build for the baseline, or a newer machine.",
    ),
    134: Cause("it aborted (SIGABRT, exit status 134)", "A native library gave up; its last line says why."),
    137: Cause(
        "it was killed (SIGKILL, exit status 137), as the kernel and the engines do with what takes too much memory",
        "Give the machine or the container more memory, or use a smaller model or fewer workers.",
    ),
    139: Cause(
        "it crashed in native code (SIGSEGV, exit status 139)",
        "Two packages may bring different versions of one native library; look at what was imported last.",
    ),
}


def cause_of(logs: str, status: int | None = None) -> Cause | None:
    """The cause that a container's logs, or the status that it ended with, name. None where neither does.

    >>> cause_of("ModuleNotFoundError: No module named 'sklearn'").hint
    'Add scikit-learn to the requirements, or the file to the project where it is your own.'
    """
    for pattern, explain in _LAST_WORDS:
        if found := list(pattern.finditer(logs)):
            return explain(found[-1])  # a server may go on after an earlier one
    return _STATUSES.get(status) if status is not None else None
