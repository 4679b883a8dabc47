"""One form for graphs that compute the same in the same way, whatever order and names an exporter gave their parts.

An exporter keeps sets of nodes and numbers its values as it meets them, so that two exports of one network may differ
in nothing but that. Here nodes are ordered and values numbered as they are met from the outputs backwards, which
depends on what is connected with what alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

_GIVEN = "network."  # what the names of a network's own weights begin with (encoder_graph)


def canonical(model: Any) -> None:
    """Order a ModelProto's nodes, number the values that have no names of their own, and leave out what is unused.

    Names stay of inputs, outputs and a network's own weights. A graph with graphs inside (If, Loop) or with functions
    is left as it is: their names have scopes.

    Raises: `onnx.checker.ValidationError` where the result is no valid model.
    """
    import onnx

    graph = model.graph
    if model.functions or graph.sparse_initializer or any(_has_graphs(node) for node in graph.node):
        return
    order = {_first(node): number for number, node in enumerate(_from_outputs(graph))}
    _keep(graph.node, lambda node: _first(node) in order)
    graph.node.sort(key=lambda node: order[_first(node)])
    used = {value for node in graph.node for value in node.input} | {output.name for output in graph.output}
    _keep(graph.initializer, lambda weight: weight.name in used)
    names = _names(graph)
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        node.attribute.sort(key=lambda attribute: attribute.name)
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                values[place] = names[value] if value else ""
    for weight in graph.initializer:
        weight.name = names[weight.name]
    graph.initializer.sort(key=lambda weight: weight.name)
    onnx.checker.check_model(model)


def _from_outputs(graph: Any) -> Iterator[Any]:
    """Nodes that an output needs, each after those that it needs; in an order that the connections alone decide."""
    makers = {value: node for node in graph.node for value in node.output if value}
    done: set[str] = set()
    for output in graph.output:
        waiting = [(makers[output.name], False)] if output.name in makers else []
        while waiting:
            node, ready = waiting.pop()
            if _first(node) in done:
                continue
            if ready:
                done.add(_first(node))
                yield node
                continue
            waiting.append((node, True))
            # The first input is looked at first: it is the last to be put onto the pile.
            waiting += [(makers[value], False) for value in reversed(node.input) if value in makers]


def _names(graph: Any) -> dict[str, str]:
    """Of every value, what it is called from now on; generated names are numbers in the order of the nodes."""
    own = [value.name for value in (*graph.input, *graph.output)]
    own += [weight.name for weight in graph.initializer if weight.name.startswith(_GIVEN)]
    names, fixed = {name: name for name in own}, frozenset(own)
    free = (name for name in map("value_{}".format, count()) if name not in fixed)
    for node in graph.node:
        for value in (*node.input, *node.output):
            if value and value not in names:
                names[value] = next(free)
    return names


def _first(node: Any) -> str:
    """What a node is known by: no two make the same value."""
    return next((value for value in node.output if value), "")


def _keep(parts: Any, wanted: Callable[[Any], bool]) -> None:
    """In place: weights are most of the memory that is there."""
    for place in reversed(range(len(parts))):
        if not wanted(parts[place]):
            del parts[place]


def _has_graphs(node: Any) -> bool:
    return any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute)
