"""From the packages asked for to all that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from debian_archive import Deb

from lightship.bases.debian.index import PackageIndex
from lightship.bases.debian.resolver import resolve
from lightship.errors import LockError


def package(name: str, version: str = "1.0", **fields: str) -> Deb:
    architecture = fields.pop("architecture", "amd64")
    return Deb(name, version, architecture, fields={key.replace("_", "-"): value for key, value in fields.items()})


def closure(
    wanted: Sequence[str], *suites: Sequence[Deb], omitted: Mapping[tuple[str, str], str] | None = None
) -> list[str]:
    indexes = [
        PackageIndex(str(number), "\n".join(each.paragraph for each in suite).encode())
        for number, suite in enumerate(suites)
    ]
    return [f"{each.name} {each.version}" for each in resolve(wanted, indexes, "amd64", omitted or {})]


def test_dependencies_are_followed_and_recommendations_are_not() -> None:
    suite = [
        package("app", Depends="lib (>= 1)", Pre_Depends="pre", Recommends="more"),
        package("lib", Depends="deep"),
        *map(package, ("pre", "deep", "more")),
    ]
    assert closure(["app"], suite) == ["app 1.0", "deep 1.0", "lib 1.0", "pre 1.0"]


def test_the_highest_version_of_all_suites_is_taken() -> None:
    main = [package("libc6", "2.36-9+deb12u14"), package("tzdata", "2026b-0")]
    security = [package("libc6", "2.36-9+deb12u7"), package("tzdata", "2026f-0")]
    assert closure(["libc6", "tzdata"], main, security) == ["libc6 2.36-9+deb12u14", "tzdata 2026f-0"]


def test_circles_end() -> None:
    assert closure(["aa"], [package("aa", Depends="bb"), package("bb", Depends="aa")]) == ["aa 1.0", "bb 1.0"]


def test_the_first_alternative_that_can_be_had_is_taken() -> None:
    suite = [
        package("app", Depends="gone | old (>= 2) | good | other"),
        package("old"),
        *map(package, ("good", "other")),
    ]
    assert closure(["app"], suite) == ["app 1.0", "good 1.0"]


def test_an_alternative_that_is_chosen_already_is_enough() -> None:
    suite = [package("app", Depends="first | second"), package("first"), package("second")]
    assert closure(["second", "app"], suite) == ["app 1.0", "second 1.0"]


def test_a_virtual_package_is_provided_by_the_most_important_one() -> None:
    suite = [
        package("app", Depends="awk"),
        package("gawk", Provides="awk", Priority="optional"),
        package("mawk", Provides="awk", Priority="required"),
        package("original-awk", Provides="awk", Priority="optional"),
    ]
    assert closure(["app"], suite) == ["app 1.0", "mawk 1.0"]


def test_a_versioned_relation_is_met_by_a_versioned_provides_only() -> None:
    providers = [package("plain", Provides="abi", Priority="required"), package("exact", Provides="abi (= 3)")]
    assert closure(["app"], [package("app", Depends="abi (>= 2)"), *providers]) == ["app 1.0", "exact 1.0"]
    with pytest.raises(LockError, match=r"app 1\.0 \(it was asked for\) needs abi \(>= 4\)"):
        closure(["app"], [package("app", Depends="abi (>= 4)"), *providers])


def test_packages_of_other_architectures_are_not_seen() -> None:
    suite = [
        package("app", Depends="lib"),
        package("lib", "9", architecture="i386"),
        package("lib", architecture="all"),
    ]
    assert closure(["app"], suite) == ["app 1.0", "lib 1.0"]


def test_what_is_omitted_is_not_followed_but_can_be_asked_for() -> None:
    suite = [
        package("app", Depends="debconf (>= 1) | debconf-2.0, lib, docs"),
        package("lib", Depends="docs"),
        *map(package, ("debconf", "docs")),
    ]
    omitted = {("*", "debconf"): "no scripts", ("lib", "docs"): "documentation"}
    assert closure(["app"], suite, omitted=omitted) == ["app 1.0", "docs 1.0", "lib 1.0"]
    assert closure(["lib"], suite, omitted=omitted) == ["lib 1.0"]
    assert "debconf 1.0" in closure(["app", "debconf"], suite, omitted=omitted)


def test_an_unknown_package_is_named_with_its_neighbours() -> None:
    with pytest.raises(LockError, match=r"no Debian package 'libgmop1'.*Did you mean libgomp1\?"):
        closure(["libgmop1"], [package("libgomp1")])


def test_a_dependency_that_is_too_old_tells_who_wants_it() -> None:
    suite = [package("app", Depends="lib"), package("lib", Depends="core (>= 2)"), package("core", "1.9")]
    with pytest.raises(LockError, match=r"lib 1\.0 \(app needs it\) needs core \(>= 2\).*core is 1\.9"):
        closure(["app"], suite)


@pytest.mark.parametrize("field", ["Conflicts", "Breaks"])
def test_packages_that_exclude_each_other_are_refused(field: str) -> None:
    suite = [package("app", **{field: "rival (<< 2), nobody"}), package("rival", "1.5")]
    with pytest.raises(LockError, match="exclude each other"):
        closure(["app", "rival"], suite)
    assert closure(["app", "rival"], [suite[0], package("rival", "2")]) == ["app 1.0", "rival 2"]


def test_a_package_may_conflict_with_what_it_provides_itself() -> None:
    assert closure(["aa"], [package("aa", Provides="mail", Conflicts="mail")]) == ["aa 1.0"]
