"""Whom a container runs as."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightship.errors import EngineError
from lightship.run.user import User, image_user

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbad line\napp:x:65532:65533::/home/app:/bin/sh\nodd:x:five:5::/:\n"
GROUP = "root:x:0:\nmodels:x:500:app\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", User(0, 0, "/root")),
        ("65532:65532", User(65532, 65532, "/home/app")),
        ("65532", User(65532, 65533, "/home/app")),
        ("1000", User(1000, 0, "/")),
        ("app", User(65532, 65533, "/home/app")),
        ("app:models", User(65532, 500, "/home/app")),
        ("1000:models", User(1000, 500, "/")),
        ("app:7", User(65532, 7, "/home/app")),
    ],
)
def test_users_are_found_as_engines_find_them(root: Path, user: str, expected: User) -> None:
    assert image_user(user, root) == expected


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert image_user("65532:65532", tmp_path) == User(65532, 65532, "/")


@pytest.mark.parametrize(
    ("user", "missing"), [("nobody", "/etc/passwd"), ("app:none", "/etc/group"), ("odd", "/etc/passwd")]
)
def test_an_unknown_name_is_refused_with_the_file_that_lacks_it(root: Path, user: str, missing: str) -> None:
    with pytest.raises(EngineError, match=missing) as caught:
        image_user(user, root)
    assert "65532:65532" in str(caught.value.hint)


@pytest.mark.parametrize("user", ["4294967295", "99999999999999", "\u00b2", "1:4294967295"])
def test_numbers_that_no_system_has_are_refused(root: Path, user: str) -> None:
    with pytest.raises(EngineError, match="no system has"):
        image_user(user, root)


def test_a_user_database_that_is_a_link_is_the_images_own(root: Path) -> None:
    (root / "etc/passwd").rename(root / "users")
    (root / "etc/passwd").symlink_to("/users")
    assert image_user("app", root).uid == 65532
