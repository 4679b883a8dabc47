"""Bills of materials: valid by their standards' own validators, exact, and the same for the same image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from lightship.errors import IntegrityError
from lightship.layers import Compression
from lightship.session import Session
from lightship.supply import Materials, cyclonedx_document, spdx_document, take_inventory

MakeMaterials = Callable[..., Materials]
HOSTILE = {
    "alpha": b"License-Expression: MIT\x00\xff\nLicense: \x1b[2J\xff" + b"z" * 500_000 + b"\n",
    "beta": b'License: \xe2\x80\xae\xed\xa0\x80 ]]> "\\\n' + b"Classifier: License :: <script>\n" * 1000,
}
# A base whose own records try to be more than they are.
HOSTILE_BASE: dict[str, tuple[bytes, int] | str] = {
    "etc/os-release": (b"ID=../../evil\nVERSION_ID=\xff\n", 0o644),
    "usr/share/doc/loop": "loop",
    "usr/share/doc/out": "../../../../etc",
    "var/lib/dpkg/status": (
        b"Package: good\nStatus: install ok installed\nVersion: 1.0\nArchitecture: amd64\nSource: a (2)\n\n"
        b"Package: ../bad\nStatus: install ok installed\nVersion: 1\n\n"
        b"Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        b"Package: loop\nVersion: \x1b[2J\n\nPackage: out\nVersion: 3\nArchitecture: \xff\n",
        0o644,
    ),
    "usr/lib/python3/dist-packages/pip-23.0.dist-info/METADATA": (b"License: MIT\n", 0o644),
    "opt/\udcff\x1b/site-packages/odd-2.dist-info/METADATA": (b"License: MIT\n", 0o644),
    "usr/lib/python3/dist-packages/..-1.dist-info/METADATA": (b"License: MIT\n", 0o644),
}


def documents(materials: Materials, session: Session) -> tuple[Any, Any]:
    """Both documents, which their validators accept, parsed."""
    inventory = take_inventory(materials, session)
    spdx, cyclonedx = spdx_document(inventory), cyclonedx_document(inventory)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx.decode()) is None
    parsed = json.loads(spdx)
    assert validate_full_spdx_document(JsonLikeDictParser().parse(parsed)) == []
    bom = json.loads(cyclonedx)
    references = [bom["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in bom["components"])]
    identities = [each["SPDXID"] for each in parsed["packages"]]
    assert len(set(references)) == len(references) == len(set(identities)) == len(identities)
    for each in bom["components"]:
        if "purl" in each:
            assert (
                PackageURL.from_string(each["purl"]).version == each.get("version", "")
                or each["name"] == "team/python"
            )
    return parsed, bom


def test_everything_of_the_image_is_listed_with_hash_and_licence(
    make_materials: MakeMaterials, session: Session
) -> None:
    materials = make_materials()
    spdx, bom = documents(materials, session)
    parts = {each["bom-ref"]: each for each in bom["components"]}
    wheel = materials.lock.wheels[0]
    alpha = parts["wheel-alpha-1.0"]
    assert alpha["purl"] == "pkg:pypi/alpha@1.0"
    assert alpha["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
    assert alpha["licenses"] == [{"expression": "MIT AND (Apache-2.0 OR ISC)", "acknowledgement": "declared"}]
    assert parts["wheel-beta-1.0"]["licenses"] == [
        {"license": {"name": "BSD License", "acknowledgement": "declared"}}
    ]
    debs = {each["name"]: each for each in parts.values() if each.get("purl", "").startswith("pkg:deb/")}
    assert set(debs) == {"libz-tools", "python3.11-minimal", "zlib1g"}
    assert debs["zlib1g"]["purl"] == (
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib"
    )
    for name in ("zlib1g", "libz-tools"):  # the second one's documents are a link to the first one's
        assert debs[name]["licenses"][0]["expression"] == "(MIT OR GPL-2.0-or-later) AND Zlib"
    weights = next(each for each in parts.values() if each["type"] == "machine-learning-model")
    assert weights["hashes"][0]["content"] == materials.weights[0].digest.removeprefix("sha256:")
    assert {"lightship-runtime", "python", "debian"} <= {each["name"] for each in parts.values()}
    assert bom["metadata"]["component"]["hashes"][0]["content"] == materials.digest_hex
    (image,) = (each for each in spdx["packages"] if each["primaryPackagePurpose"] == "CONTAINER")
    assert image["checksums"] == [{"algorithm": "SHA256", "checksumValue": materials.digest_hex}]
    contained = [each for each in spdx["relationships"] if each["relationshipType"] == "CONTAINS"]
    assert len(contained) == len(bom["components"])


def test_the_same_image_has_the_same_documents_wherever_its_wheels_are(
    make_materials: MakeMaterials, session: Session
) -> None:
    here = take_inventory(make_materials(), session)
    for wheel in make_materials().lock.wheels:
        session.cache.blob_path(f"sha256:{wheel.sha256}").unlink()
    from_layers = take_inventory(make_materials(keep_wheels=False), session)
    assert spdx_document(from_layers) == spdx_document(here)
    assert cyclonedx_document(from_layers) == cyclonedx_document(here)


def test_documents_of_another_image_differ_in_their_names(make_materials: MakeMaterials, session: Session) -> None:
    materials = make_materials()
    other = replace(materials, image=replace(materials.image, created=1))
    first, second = (json.loads(cyclonedx_document(take_inventory(each, session))) for each in (materials, other))
    assert first["serialNumber"] != second["serialNumber"]
    assert second["metadata"]["timestamp"] == "1970-01-01T00:00:01Z"
    first, second = (json.loads(spdx_document(take_inventory(each, session))) for each in (materials, other))
    assert first["documentNamespace"] != second["documentNamespace"]
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first["documentNamespace"]
    )
    renamed = spdx_document(take_inventory(replace(materials, tag="2"), session))
    assert json.loads(renamed)["documentNamespace"] != first["documentNamespace"]


@pytest.mark.parametrize("compression", [each for each in Compression if each is not Compression.ESTARGZ])
def test_hostile_wheels_and_bases_give_valid_documents(
    make_materials: MakeMaterials, session: Session, compression: Compression
) -> None:
    materials = make_materials(HOSTILE, published=True, base_files=HOSTILE_BASE, compression=compression)
    _, bom = documents(materials, session)
    names = {each["name"] for each in bom["components"] if each.get("purl", "").startswith("pkg:deb/")}
    assert names == {"good", "out"}
    assert {"pip", "odd"} <= {each["name"] for each in bom["components"]}
    assert all(text.isprintable() for text in strings(bom))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.items() for text in strings(list(each))]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def test_a_published_base_is_an_image_of_its_own_and_its_packages_are_listed(
    make_materials: MakeMaterials, session: Session
) -> None:
    _, bom = documents(make_materials(published=True), session)
    parts = {each["bom-ref"]: each for each in bom["components"]}
    (base,) = (each for each in parts.values() if each["type"] == "operating-system")
    assert base["hashes"][0]["content"] == "4" * 64
    assert base["purl"].startswith("pkg:oci/python@sha256:" + "4" * 64)
    (deb,) = (each for each in parts.values() if each.get("purl", "").startswith("pkg:deb/"))
    assert deb["purl"] == "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12&upstream=zlib"
    assert "hashes" not in deb


def test_a_wheel_that_is_nowhere_is_an_error(make_materials: MakeMaterials, session: Session, tmp_path: Path) -> None:
    materials = make_materials()
    empty = replace(session, cache=type(session.cache)(tmp_path / "empty"))
    with pytest.raises(IntegrityError, match="not in the cache any more"):
        take_inventory(materials, empty)


def test_licences_are_summed_up_by_family(make_materials: MakeMaterials, session: Session) -> None:
    families = take_inventory(make_materials(), session).families()
    assert {family.value: [each.name for each in found] for family, found in families.items()} == {
        "strong copyleft": [],
        "weak copyleft": [],
        "unknown": ["python3.11-minimal"],
        "permissive": ["python", "lightship-runtime", "alpha", "beta", "libz-tools", "zlib1g"],
    }


def test_the_runtimes_licence_is_the_one_that_it_declares() -> None:
    import tomllib

    from lightship.supply.inventory import RUNTIME_LICENCE

    path = Path(__file__).resolve().parents[2] / "packages" / "lightship-runtime" / "pyproject.toml"
    assert tomllib.loads(path.read_text())["project"]["license"] == RUNTIME_LICENCE
