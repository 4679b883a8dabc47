"""Choosing an engine."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lightship.errors import EngineError
from lightship.oci.image import Image
from lightship.run.choice import ENGINES, choose, engines
from lightship.run.engine import Container, RunOptions
from lightship.session import Session


@dataclass
class Stub:
    """An engine that works or does not."""

    name: str
    reason: str | None = None
    asked: int = 0

    def why_not(self) -> str | None:
        self.asked += 1
        return self.reason

    def start(self, image: Image, session: Session, options: RunOptions) -> Container:
        raise NotImplementedError


def test_the_first_that_works_is_taken_and_the_rest_not_asked() -> None:
    engines = [Stub("docker", "no daemon"), Stub("podman"), Stub("embedded")]
    assert choose(engines).name == "podman"
    assert [engine.asked for engine in engines] == [1, 1, 0]


def test_the_named_one_is_taken_though_another_comes_first() -> None:
    assert choose([Stub("docker"), Stub("embedded")], "embedded").name == "embedded"


def test_the_reasons_of_all_are_given_where_none_works() -> None:
    with pytest.raises(EngineError, match="docker: no daemon; embedded: no namespaces"):
        choose([Stub("docker", "no daemon"), Stub("embedded", "no namespaces")])


def test_a_named_one_that_does_not_work_is_not_replaced() -> None:
    with pytest.raises(EngineError, match="docker cannot be used here: no daemon"):
        choose([Stub("docker", "no daemon"), Stub("embedded")], "docker")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EngineError, match="no engine 'dokcer'") as caught:
        choose([Stub("docker"), Stub("embedded")], "dokcer")
    assert "docker, embedded" in str(caught.value.hint)


def test_every_engine_is_there_in_the_order_of_preference(session: Session) -> None:
    assert tuple(engine.name for engine in engines(session)) == ENGINES
