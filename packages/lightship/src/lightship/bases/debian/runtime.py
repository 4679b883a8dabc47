"""What a Python runtime is made of on Debian, and what it does without. Every choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from lightship.errors import ProjectError
from lightship.releases import RELEASES, Release

ARCHITECTURES = ("amd64", "arm64")  # Debian's names, which for these two are OCI's names as well


def runtime_packages(release: Release) -> tuple[str, ...]:
    """The packages that are asked for; their dependencies follow."""
    return (
        f"python{release.python}-minimal",
        f"libpython{release.python}-stdlib",
        "base-files",  # os-release, the directories of the FHS, licence texts that copyright files refer to
        "ca-certificates",  # TLS to anywhere
        "libc-bin",  # ldconfig: ctypes.util.find_library and the NVIDIA container toolkit call it
        "libgomp1",  # the OpenMP of most numeric wheels that do not bring their own
        "libstdc++6",  # C++ extension modules
        "netbase",  # service and protocol names for socket.getservbyname and gRPC
        "tzdata",  # zoneinfo
    )


def omissions(release: Release) -> Mapping[tuple[str, str], str]:
    """Dependencies that are not followed: (package, or * for all; what it asks for) and why.

    A package that is asked for by name is installed all the same.
    """
    stdlib = f"libpython{release.python}-stdlib"
    return {
        ("*", "dpkg"): "nothing is installed or removed inside the image",
        ("*", "debconf"): "no maintainer script runs, so none asks questions",
        ("*", "debconf-2.0"): "no maintainer script runs, so none asks questions",
        ("*", "cdebconf"): "no maintainer script runs, so none asks questions",
        ("*", "ucf"): "configuration files are written once, by the build",
        ("*", "adduser"): "accounts are written by the build",
        ("*", "tar"): "asked for by dpkg only",
        ("*", "install-info"): "info pages are dropped",
        ("*", "init-system-helpers"): "a container runs one program, not an init system",
        ("*", "sysvinit-utils"): "a container runs one program, not an init system",
        ("*", "lsb-base"): "a container runs one program, not an init system",
        ("base-files", "awk"): "its preinst uses awk; scripts do not run",
        ("ca-certificates", "openssl"): "its script hashes certificates with it; the build writes the bundle",
        ("dash", "debianutils"): "its scripts use it to register the shell",
        ("libreadline8", "readline-common"): "an example inputrc and documentation",
        ("libreadline8t64", "readline-common"): "an example inputrc and documentation",
        (stdlib, "media-types"): "the mimetypes module has a table of its own",
        (stdlib, "mime-support"): "the mimetypes module has a table of its own",
        (stdlib, "libnsl2"): "NIS lookups; brings Kerberos along; the nis module left Python with 3.13",
        (stdlib, "libtirpc3"): "NIS lookups; brings Kerberos along; the nis module left Python with 3.13",
        (stdlib, "libdb5.3"): "Berkeley DB, 1.8 MB; the dbm package has a portable fallback",
        (stdlib, "libdb5.3t64"): "Berkeley DB, 1.8 MB; the dbm package has a portable fallback",
    }


# Extension modules that cannot work without a library whose package is omitted above. They are left out unless
# one of these packages is in the lock, so that a missing module is an ImportError, not a failing dlopen.
MODULES_OF_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "_dbm": ("libdb5.3", "libdb5.3t64"),
    "nis": ("libnsl2",),
}


def release_named(codename: str, architecture: str) -> Release:
    """The release of a base; a `ProjectError` names the ones that there are."""
    if codename not in RELEASES:
        known = ", ".join(f"debian:{name} (Python {release.python})" for name, release in RELEASES.items())
        raise ProjectError(
            f"There is no assembled base debian:{codename}.",
            hint=f"Known are {known}. Any other image can be used by its reference.",
        )
    if architecture not in ARCHITECTURES:
        raise ProjectError(
            f"An assembled base for {architecture!r} is not supported.",
            hint=f"Supported are {' and '.join(ARCHITECTURES)}.",
        )
    return RELEASES[codename]
