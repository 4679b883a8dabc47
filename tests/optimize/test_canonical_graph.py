"""One form for graphs: the same bytes whatever order and names their parts came in, and the same answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lightship.optimize.inside.canonical import canonical  # noqa: E402
from lightship.optimize.inside.graph import plain  # noqa: E402

SHAPE = [2, 3]


def network(layers: int = 6) -> Any:
    """Branches that join, values that several need, constants that are alike, and a weight of a network."""
    numbers = np.random.default_rng(7)

    def weight(name: str, value: Any = None) -> Any:
        return numpy_helper.from_array(
            numbers.normal(size=(3, 3)).astype(np.float32) if value is None else value, name
        )

    ones = np.ones(SHAPE, np.float32)
    weights = [
        weight("network.first.weight"),
        weight("network.unused.weight"),
        weight("val_7", ones),
        weight("val_9", ones),
    ]
    nodes = [helper.make_node("MatMul", ["input", "network.first.weight"], ["linear"], name="node_linear")]
    last = "linear"
    for number in range(layers):
        weights.append(weight(f"val_{20 + number}"))
        nodes += [
            helper.make_node("MatMul", [last, f"val_{20 + number}"], [f"left_{number}"]),
            helper.make_node("Tanh", [last], [f"right_{number}"]),
            helper.make_node("Clip", [f"right_{number}", "", "limit"], [f"clipped_{number}"]),
            helper.make_node("Add", [f"left_{number}", f"clipped_{number}"], [f"sum_{number}"]),
        ]
        last = f"sum_{number}"
    weights.append(numpy_helper.from_array(np.array(0.5, np.float32), "limit"))
    nodes += [
        helper.make_node("Add", [last, "val_7"], ["one"]),
        helper.make_node("Mul", ["one", "val_9"], ["two"]),
        helper.make_node("Softmax", ["two"], ["answer"], axis=-1),
        helper.make_node("Split", ["linear"], ["up", "down"], axis=0, num_outputs=2),
        helper.make_node("Concat", ["down", "up"], ["turned"], axis=0),
        helper.make_node("Exp", ["linear"], ["nobody_needs_it"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("input", "answer", "turned")]
    graph = helper.make_graph(nodes, "model", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def shuffled(model: Any, order: random.Random) -> Any:
    """The same in another order that is allowed, under other names, of nodes, values, attributes and weights."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    fixed = {value.name for value in (*graph.input, *graph.output)} | {
        "network.first.weight",
        "network.unused.weight",
        "",
    }
    values = {name for node in graph.node for name in (*node.input, *node.output)} - fixed
    numbers = order.sample(range(1000), len(values))
    names = {name: f"val_{number}" for name, number in zip(sorted(values), numbers, strict=True)}
    nodes = list(any_order(list(graph.node), order))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    for place, node in enumerate(copies):
        node.name = f"node_{order.randrange(1 << 30)}_{place}"
        for side in (node.input, node.output):
            renamed = [names.get(name, name) for name in side]
            del side[:]
            side.extend(renamed)
        attributes = list(node.attribute)
        order.shuffle(attributes)
        copied = [onnx.AttributeProto.FromString(each.SerializeToString()) for each in attributes]
        del node.attribute[:]
        node.attribute.extend(copied)
    del graph.node[:]
    graph.node.extend(copies)
    weights = [onnx.TensorProto.FromString(weight.SerializeToString()) for weight in graph.initializer]
    order.shuffle(weights)
    for weight in weights:
        weight.name = names.get(weight.name, weight.name)
    del graph.initializer[:]
    graph.initializer.extend(weights)
    onnx.checker.check_model(made)
    return made


def any_order(nodes: list[Any], order: random.Random) -> Iterator[Any]:
    """Each after those that it needs."""
    made_somewhere = {name for node in nodes for name in node.output}
    there: set[str] = set()
    while nodes:
        ready = [node for node in nodes if all(name in there or name not in made_somewhere for name in node.input)]
        node = order.choice(ready)
        nodes.remove(node)
        there.update(node.output)
        yield node


def bytes_of(model: Any) -> bytes:
    plain(model)
    canonical(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_whatever_order_and_names_it_came_in_the_bytes_are_the_same(seed: int) -> None:
    other = shuffled(network(), random.Random(seed))
    assert bytes_of(other) == bytes_of(network())


def test_the_answers_are_the_same_to_the_last_bit() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = network()
    asked = {"input": np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)}
    content = bytes_of(shuffled(model, random.Random(1)))

    def answers(content: bytes) -> Any:
        return runtime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, asked)

    for one, other in zip(answers(model.SerializeToString()), answers(content), strict=True):
        assert one.tobytes() == other.tobytes()


def test_names_that_say_something_stay_and_what_is_unused_goes() -> None:
    model = network()
    bytes_of(model)
    graph = model.graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "answer", "turned"]
    names = [weight.name for weight in graph.initializer]
    assert "network.first.weight" in names and "network.unused.weight" not in names
    assert names == sorted(names)
    assert len(graph.initializer) == len(network().graph.initializer) - 1
    assert "Exp" not in {node.op_type for node in graph.node}
    assert not {name for node in graph.node for name in node.output} & {"left_0", "val_7", "sum_1"}


def test_another_computation_has_other_bytes() -> None:
    swapped = network()
    (turned,) = (node for node in swapped.graph.node if node.op_type == "Concat")
    turned.input[0], turned.input[1] = turned.input[1], turned.input[0]
    assert bytes_of(swapped) != bytes_of(network())


def test_graphs_within_graphs_are_left_alone() -> None:
    then = helper.make_graph(
        [helper.make_node("Identity", ["chosen"], ["inner"])],
        "then",
        [],
        [helper.make_tensor_value_info("inner", 1, SHAPE)],
    )
    model = network(1)
    model.graph.node.add().CopyFrom(helper.make_node("If", ["yes"], ["more"], then_branch=then, else_branch=then))
    before = model.SerializeToString(deterministic=True)
    canonical(model)
    assert model.SerializeToString(deterministic=True) == before
