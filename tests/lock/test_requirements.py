"""Where requirements come from, and what can be read from them without a resolver."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightship.errors import LockError, ProjectError
from lightship.lock import find_requirements, pins, proposed_requirements
from lightship.lock.requirements_file import Line, check_needs_no_build, read_lines

PYPROJECT = '[project]\nname = "app"\nversion = "1"\ndependencies = ["numpy==2.3.5", "scipy>=1"]\n'
PYLOCK = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "numpy"\nversion = "2.3.5"\n'
UV_LOCK = 'version = 1\n[[package]]\nname = "numpy"\nversion = "2.3.5"\n[[package]]\nname = "app"\n'


def test_the_documented_order(tmp_path: Path) -> None:
    assert find_requirements(tmp_path) is None
    contents = (
        ("pyproject.toml", PYPROJECT, "pyproject"),
        ("requirements.txt", "numpy==2.3.5", "requirements"),
        ("pylock.toml", PYLOCK, "pylock"),
        ("uv.lock", UV_LOCK, "uv.lock"),
    )
    for name, content, kind in contents:
        (tmp_path / name).write_text(content)
        source = find_requirements(tmp_path)
        assert source is not None
        assert (source.kind, source.path.name) == (kind, name)
        assert pins(source) == {"numpy": "2.3.5"}
        assert source.digest.startswith("sha256:")
    chosen = find_requirements(tmp_path, "pyproject.toml")
    assert chosen is not None and chosen.kind == "pyproject"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"python\.requirements"):
        find_requirements(tmp_path, "requirements/serve.txt")


def test_a_pyproject_without_dependencies_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert find_requirements(tmp_path) is None


def test_dynamic_dependencies_are_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\ndynamic = ["dependencies"]\n')
    with pytest.raises(LockError, match="dynamic") as caught:
        find_requirements(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("content", ["[project", "[project]\ndependencies = 3\n", "\udcff"])
def test_a_broken_pyproject_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ProjectError, match=r"pyproject\.toml"):
        find_requirements(tmp_path)


def test_the_digest_of_a_pyproject_ignores_what_is_not_about_requirements(tmp_path: Path) -> None:
    def digest(more: str) -> str:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT + more)
        source = find_requirements(tmp_path)
        assert source is not None
        return source.digest

    assert digest("") == digest("[tool.ruff]\nline-length = 100\n")
    assert digest("") != digest('[tool.uv]\nconstraint-dependencies = ["scipy<2"]\n')


def test_proposed_requirements_are_a_source_like_any_other() -> None:
    source = proposed_requirements(["scikit-learn==1.7.2", "numpy"])
    assert pins(source) == {"scikit-learn": "1.7.2"}
    assert source.digest != proposed_requirements(["scikit-learn==1.7.3", "numpy"]).digest


# The format of requirements files


def lines_of(folder: Path, text: str) -> list[Line]:
    path = folder / "requirements.txt"
    path.write_text(text)
    return read_lines(path)


def test_comments_continuations_and_includes_are_read(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.txt").write_text("c==3\n-r ../requirements.txt\n")
    (tmp_path / "limits.txt").write_text("d<4\n")
    text = (
        "\ufeff# heading\n\na==1 # why\nb==2 \\\n  --hash=sha256:"
        + "a" * 64
        + " \\\n  --hash=sha256:"
        + "B" * 64
        + "\n"
        "-r base/base.txt\n-climits.txt\n--requirement=base/base.txt\n--index-url https://example.org/simple\n"
        "e @ https://example.org/e.whl#sha256=" + "c" * 64 + "\n"
    )
    found = lines_of(tmp_path, text)
    names = [(line.origin, line.name, line.constraint) for line in found if not line.is_option]
    assert names == [
        ("requirements.txt:3", "a", False),
        ("requirements.txt:4", "b", False),
        ("base.txt:1", "c", False),
        ("limits.txt:1", "d", True),
        ("requirements.txt:11", "e", False),
    ]
    assert found[1].hashes == {"a" * 64, "b" * 64}
    assert found[1].pin == ("b", "2")
    assert [line.text for line in found if line.is_option] == ["--index-url https://example.org/simple"]


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("a==1.0", ("a", "1.0")),
        ("A_b.C == 1.0+cpu", ("a-b-c", "1.0+cpu")),
        ("a[x,y]==1!2.0rc1 ; python_version < '4'", ("a", "1!2.0rc1")),
        ("a===1.0", ("a", "1.0")),
        ("a (==1.0)", ("a", "1.0")),
        ("a==1.*", None),
        ("a>=1.0", None),
        ("a==1.0,!=1.1", None),
        ("a", None),
        ("a @ file:///a-1.0-py3-none-any.whl", None),
        ("./a-1.0-py3-none-any.whl", None),
    ],
)
def test_exact_pins(text: str, pin: tuple[str, str] | None) -> None:
    assert Line("here", text).pin == pin


@pytest.mark.parametrize(
    "text", ["./dist/a-1.0-py3-none-any.whl", "a @ file:///srv/a-1.0-py3-none-any.whl", "a==1.0 --hash=sha256:0", "a"]
)
def test_names_and_wheels_need_no_build(text: str) -> None:
    check_needs_no_build(Line("here", text))


def test_an_included_file_that_is_missing_is_named_with_who_includes_it(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"more\.txt \(included from .*requirements\.txt\)"):
        lines_of(tmp_path, "-r more.txt")


def test_requirements_from_a_url_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"requirements\.txt:1: .*URL") as caught:
        lines_of(tmp_path, "-r https://user:secret@example.org/requirements.txt")
    assert "secret" not in caught.value.message


def test_endless_includes_end(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    with pytest.raises(ProjectError, match="more than 100 files"):
        lines_of(tmp_path, "-r 0.txt")


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    with path.open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(ProjectError, match="larger than"):
        read_lines(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("requirements")


@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("-rc\\\n#@=.;/ "), max_size=80))
def test_any_text_is_read_or_refused(folder: Path, text: str) -> None:
    try:
        found = lines_of(folder, text)
        for line in found:
            assert line.text == " ".join(line.text.split())
            _ = line.name, line.pin, line.hashes, line.direct_reference, line.is_option
            check_needs_no_build(line)
    except (ProjectError, LockError) as error:
        assert "requirements.txt" in error.message
