"""What users have configured for pip reaches uv, and never overrides what they have configured for uv."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightship.lock.index import index_configuration

PIP = {
    "PIP_INDEX_URL": "https://pip.invalid/simple",
    "PIP_EXTRA_INDEX_URL": "https://one.invalid https://two.invalid",
}


@pytest.fixture
def home(environ: dict[str, str]) -> Path:
    return Path(environ["HOME"])


def test_pips_indexes_are_handed_over_and_ranked_as_pip_ranks_them(environ: dict[str, str], project: Path) -> None:
    configured = index_configuration(environ | PIP, None, project)
    assert configured.environ["UV_DEFAULT_INDEX"] == "https://pip.invalid/simple"
    assert configured.environ["UV_INDEX"] == "https://one.invalid https://two.invalid"
    assert configured.environ["UV_INDEX_STRATEGY"] == "unsafe-best-match"


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"])
def test_an_index_of_uv_counts_more(environ: dict[str, str], project: Path, variable: str) -> None:
    environ |= {**PIP, variable: "https://uv.invalid/simple"}
    assert index_configuration(environ, None, project).environ == environ


@pytest.mark.parametrize("place", ["uv.toml", "pyproject.toml", "../uv.toml", "user"])
def test_a_uv_toml_counts_more(environ: dict[str, str], project: Path, home: Path, place: str) -> None:
    path = home / ".config" / "uv" / "uv.toml" if place == "user" else project / place
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "[[tool.uv.index]]" if place == "pyproject.toml" else "[[index]]"
    path.write_text(f'{head}\nname = "ours"\nurl = "https://ship:secret@uv.invalid/simple"\n')
    configured = index_configuration(environ | PIP, None, project)
    assert "UV_DEFAULT_INDEX" not in configured.environ
    assert configured.credentials == {"https://uv.invalid:443": ("ship", "secret")}


def test_pip_conf_is_read_with_sections_and_lists(environ: dict[str, str], project: Path, home: Path) -> None:
    del environ["PIP_CONFIG_FILE"]
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://global.invalid/simple\nfind-links =\n    /srv/one\n    ~/two\n"
        "cert = /srv/ca.pem\nproxy = http://proxy.invalid:3128\n[install]\nindex_url = https://install.invalid/simple\n"
    )
    configured = index_configuration(environ, None, project).environ
    assert configured["UV_DEFAULT_INDEX"] == "https://install.invalid/simple"
    assert configured["UV_FIND_LINKS"] == f"/srv/one,{Path('~/two').expanduser()}"
    assert configured["SSL_CERT_FILE"] == "/srv/ca.pem"
    assert configured["ALL_PROXY"] == "http://proxy.invalid:3128"
    environ["PIP_INDEX_URL"] = "https://environ.invalid/simple"
    assert index_configuration(environ, None, project).environ["UV_DEFAULT_INDEX"] == "https://environ.invalid/simple"


def test_a_broken_pip_conf_is_left_to_pip(environ: dict[str, str], project: Path, home: Path) -> None:
    del environ["PIP_CONFIG_FILE"]
    (home / ".pip").mkdir()
    (home / ".pip" / "pip.conf").write_text("index-url = before any section\n")
    index_configuration(environ, None, project)


def test_certificates_of_other_tools_are_used_where_uv_has_none(environ: dict[str, str], project: Path) -> None:
    def bundle(**more: str) -> str | None:
        return index_configuration(environ | more, None, project).environ.get("SSL_CERT_FILE")

    assert bundle(PIP_CERT="/pip.pem") == "/pip.pem"
    assert bundle(PIP_CERT="/pip.pem", REQUESTS_CA_BUNDLE="/requests.pem") == "/requests.pem"
    assert bundle(PIP_CERT="/pip.pem", SSL_CERT_FILE="/own.pem") == "/own.pem"


def test_folders_are_relative_to_where_the_command_runs(
    environ: dict[str, str], project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    configured = index_configuration(environ | {"UV_FIND_LINKS": "dist,https://x.invalid/w"}, None, project)
    assert configured.environ["UV_FIND_LINKS"] == f"{tmp_path / 'dist'},https://x.invalid/w"


def test_the_key_stands_for_where_packages_are_looked_for(environ: dict[str, str], project: Path) -> None:
    first = index_configuration(environ, None, project).key
    assert index_configuration(environ | {"UNRELATED": "1"}, None, project).key == first
    assert index_configuration(environ | PIP, None, project).key != first
    assert index_configuration(environ | {"UV_FIND_LINKS": "/srv"}, None, project).key != first
