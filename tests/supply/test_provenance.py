"""Provenance says what the image was built from, and nothing of where."""

from __future__ import annotations

import json
from collections.abc import Callable

from google.protobuf.json_format import Parse, ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from lightship.project.settings import BaseTable, ModelTable, PythonTable, Settings
from lightship.project.validate import known_keys
from lightship.supply import Materials, provenance_statement
from lightship.supply.provenance import PATHS, TOLD, WITHHELD, settings_told

MakeMaterials = Callable[..., Materials]


def test_the_statement_names_the_image_and_all_that_went_in(make_materials: MakeMaterials) -> None:
    materials = make_materials()
    statement = json.loads(provenance_statement(materials))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "team/iris", "digest": {"sha256": materials.digest_hex}}]
    definition = statement["predicate"]["buildDefinition"]
    digests = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    assert digests == {
        "libz-tools": "1" * 64,
        "python3.11-minimal": "2" * 64,
        "zlib1g": "3" * 64,
        **{wheel.name: wheel.sha256 for wheel in materials.lock.wheels},
        "app/models/model.onnx": materials.weights[0].digest.removeprefix("sha256:"),
        **{layer.kind: layer.diff_id.removeprefix("sha256:") for layer in materials.image.layers[2:]},
    }
    assert definition["externalParameters"]["settings"]["image"]["labels"] == {"team": "vision"}
    assert set(statement["predicate"]["runDetails"]["builder"]) == {"id", "version"}


def test_the_statement_fits_the_messages_of_the_attestation_framework(make_materials: MakeMaterials) -> None:
    for materials in (make_materials(), make_materials(published=True)):
        document = provenance_statement(materials)
        Statement.copy_from_pb(Parse(document, StatementMessage())).validate()
        predicate = ParseDict(json.loads(document)["predicate"], Provenance())  # unknown fields are errors
        for dependency in predicate.build_definition.resolved_dependencies:
            ResourceDescriptor.copy_from_pb(dependency).validate()


def test_nothing_of_the_machine_is_told(make_materials: MakeMaterials) -> None:
    settings = Settings(
        model=ModelTable(path="/home/me/model.joblib"),
        python=PythonTable(requirements="../../home/me/requirements.txt"),
        base=BaseTable(image="oci:/home/me/base", mirror="http://mirror.internal", keyring="/home/me/keys"),
    )
    text = provenance_statement(make_materials(settings=settings)).decode()
    assert "model.joblib" in text
    for secret in ("/home", "mirror.internal", "keys", ".."):
        assert secret not in text


def test_the_statement_is_the_same_for_the_same_image(make_materials: MakeMaterials) -> None:
    assert provenance_statement(make_materials()) == provenance_statement(make_materials())


def test_a_published_base_is_a_dependency_by_its_digest(make_materials: MakeMaterials) -> None:
    statement = json.loads(provenance_statement(make_materials(published=True)))
    base = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert base == {
        "name": "base",
        "uri": "oci://registry.example/team/python",
        "digest": {"sha256": "4" * 64},
    }


def test_every_key_of_the_settings_is_told_or_withheld_on_purpose() -> None:
    tables = {key.partition(".")[0] for key in known_keys() if "." in key}
    keys = {key for key in known_keys() if key not in tables}
    assert keys == TOLD | PATHS | WITHHELD
    assert not TOLD & WITHHELD
    assert settings_told(Settings(base="oci:/x"))["base"] == {"image": "oci:x", "packages": ()}
