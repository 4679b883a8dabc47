"""The mirror is the user's own, found where it is written down already."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightship.bases.debian.mirrors import Mirrors, find_mirrors
from lightship.errors import NetworkError, ProjectError


def apt(tmp_path: Path, **files: str) -> Path:
    """An apt directory; `list` is sources.list, other names are files of sources.list.d with _ for a dot."""
    directory = tmp_path / "apt"
    (directory / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        path = directory / "sources.list" if name == "list" else directory / "sources.list.d" / name.replace("_", ".")
        path.write_text(text)
    return directory


def test_deb822_sources_are_read(tmp_path: Path) -> None:
    text = """\
# what the installer wrote
Types: deb deb-src
URIs: https://mirror.example/debian/
# an older one
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: https://mirror.example/security
Suites: bookworm-security
Components: main
"""
    assert find_mirrors(None, {}, apt(tmp_path, debian_sources=text)) == Mirrors(
        "https://mirror.example/debian", "https://mirror.example/security"
    )


def test_one_line_sources_are_read(tmp_path: Path) -> None:
    text = """\
# deb http://old.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/debian trixie main non-free  # ours
deb http://mirror.example/debian-security/ trixie-security main
"""
    assert find_mirrors(None, {}, apt(tmp_path, list=text)) == Mirrors(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )


def test_sources_of_other_publishers_are_not_mirrors(tmp_path: Path) -> None:
    others = """\
deb https://packages.example/apt cloud-sdk-bookworm main
deb https://download.example/linux/debian bookworm stable
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb mirror+file:/etc/apt/mirrors.list bookworm main
deb https://deb.example/node_20.x nodistro main
deb https://vendor.example/repository bookworm main
"""
    ours = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
    disabled = ours.replace("mirror.example", "disabled.example") + "Enabled: no\n"
    directory = apt(tmp_path, aaa_list=others, bbb_sources=disabled, ccc_sources=ours, ddd_sources=" ?", e_save=ours)
    assert find_mirrors(None, {}, directory).main == "http://mirror.example/debian"


def test_a_host_without_debian_sources_gets_the_remedy(tmp_path: Path) -> None:
    ubuntu = "deb http://archive.example/ubuntu jammy main\n"
    for directory in (tmp_path / "none", apt(tmp_path, list=ubuntu)):
        with pytest.raises(NetworkError, match="No Debian mirror") as caught:
            find_mirrors(None, {}, directory)
        assert "LIGHTSHIP_DEBIAN_MIRROR" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("given", "main", "security"),
    [
        ("https://m.example/debian/", "https://m.example/debian", "https://m.example/debian-security"),
        (
            "https://s.example/archive/debian/20260101T000000Z",
            "https://s.example/archive/debian/20260101T000000Z",
            "https://s.example/archive/debian-security/20260101T000000Z",
        ),
        ("https://m.example/all", "https://m.example/all", "https://m.example/all"),
        ("file:///srv/debian http://m.example/sec/", "file:///srv/debian", "http://m.example/sec"),
    ],
)
def test_one_url_may_stand_for_both_archives(given: str, main: str, security: str, tmp_path: Path) -> None:
    assert find_mirrors(given, {}, tmp_path) == Mirrors(main, security)
    assert find_mirrors(None, {"LIGHTSHIP_DEBIAN_MIRROR": given}, tmp_path) == Mirrors(main, security)


@pytest.mark.parametrize("given", ["mirror.example/debian", "ftp://m.example/debian", "http://a http://b http://c"])
def test_what_is_no_url_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="LIGHTSHIP_DEBIAN_MIRROR"):
        find_mirrors(None, {"LIGHTSHIP_DEBIAN_MIRROR": given}, tmp_path)


def test_security_packages_are_looked_for_in_both_archives() -> None:
    mirrors = Mirrors("http://m.example/debian", "http://m.example/debian-security")
    assert mirrors.of_package("pool/main/a/aa_1.deb") == ("http://m.example/debian/pool/main/a/aa_1.deb",)
    assert mirrors.of_package("pool/updates/main/a/aa_1.deb") == (
        "http://m.example/debian-security/pool/updates/main/a/aa_1.deb",
        "http://m.example/debian/pool/main/a/aa_1.deb",
    )
    assert mirrors.of_suite("bookworm-security") == mirrors.security
    assert mirrors.of_suite("bookworm-updates") == mirrors.main
