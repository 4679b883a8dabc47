"""Which wheels share a layer: a change of one package changes one layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from lightship.layers.grouping import HEAVY, MOST_HEAVY, SMALL_GROUPS, group


@dataclass(frozen=True)
class Wheel:
    name: str
    size: int
    version: str = "1"


wheels = st.lists(
    st.builds(Wheel, st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, 2 * HEAVY)),
    max_size=60,
    unique_by=lambda wheel: wheel.name,
)


def layers(chosen: list[Wheel]) -> set[tuple[Wheel, ...]]:
    return set(group(chosen))


@given(wheels)
def test_every_wheel_is_in_one_layer_and_the_budget_holds(chosen: list[Wheel]) -> None:
    grouped = group(chosen)
    assert sorted((w for g in grouped for w in g), key=lambda w: w.name) == sorted(chosen, key=lambda w: w.name)
    assert len(grouped) <= MOST_HEAVY + SMALL_GROUPS


@given(wheels, st.data())
def test_a_new_version_changes_one_layer(chosen: list[Wheel], data: st.DataObject) -> None:
    if not chosen:
        return
    old = data.draw(st.sampled_from(chosen))
    bumped = [replace(wheel, version="2") if wheel is old else wheel for wheel in chosen]
    assert len(layers(bumped) - layers(chosen)) == 1


@given(wheels, st.data())
def test_a_package_more_or_less_changes_one_layer(chosen: list[Wheel], data: st.DataObject) -> None:
    heavy = [wheel for wheel in chosen if wheel.size >= HEAVY]
    if not chosen or len(heavy) > MOST_HEAVY:
        return
    gone = data.draw(st.sampled_from(chosen))
    fewer = [wheel for wheel in chosen if wheel is not gone]
    assert len(layers(fewer) - layers(chosen)) <= 1
    assert len(layers(chosen) - layers(fewer)) == 1


@given(wheels)
def test_the_order_of_the_lock_does_not_matter(chosen: list[Wheel]) -> None:
    assert group(chosen) == group(chosen[::-1])
