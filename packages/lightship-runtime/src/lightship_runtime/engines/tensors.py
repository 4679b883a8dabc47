"""Models of tensors: from instances to named input tensors, from output tensors to one prediction per instance.

One input takes the instances as they are, stacked; of several inputs each instance is an object with their names. A
model whose first dimension is fixed at 1 is asked once per instance; so is nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from lightship_runtime.engines.arrays import tensor
from lightship_runtime.engines.engine import BadInstances, Instances, TensorSpec
from lightship_runtime.engines.specs import datatype, example_of

if TYPE_CHECKING:
    import numpy

Feed: TypeAlias = "dict[str, numpy.ndarray]"
Run = Callable[[Mapping[str, Any]], Sequence[Any]]


@dataclass(frozen=True)
class TensorInput:
    """An input: its name, its numpy type, and its lengths with the instances first; None where any will do."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def spec(self) -> TensorSpec:
        """As the Open Inference Protocol says it."""
        import numpy

        shape = (None,) if self.shape is None else self.shape
        return TensorSpec(
            self.name, datatype(numpy.dtype(self.dtype)), tuple(-1 if one is None else one for one in shape)
        )

    @property
    def example(self) -> Any:
        """One instance's part, as nested lists; None where it is unknown or too long."""
        return None if self.shape is None else example_of(self.spec.datatype, self.spec.shape[1:])


def feed(instances: Instances, inputs: Sequence[TensorInput]) -> Feed:
    """The tensors by input. Raises BadInstances."""
    if len(inputs) == 1:
        return {inputs[0].name: _fitting(instances, inputs[0])}
    names = [one.name for one in inputs]
    for number, instance in enumerate(instances, 1):
        if not isinstance(instance, dict) or sorted(instance) != sorted(names):
            raise BadInstances(f"Instance {number} must be an object with the members {', '.join(names)}.")
    return {one.name: _fitting([instance[one.name] for instance in instances], one) for one in inputs}


def example(inputs: Sequence[TensorInput]) -> Any:
    """One instance with plain numbers; None where an input's shape is unknown or too long."""
    parts = {one.name: one.example for one in inputs}
    if any(part is None for part in parts.values()):
        return None
    return parts[inputs[0].name] if len(inputs) == 1 else parts


def one_at_a_time(inputs: Sequence[TensorInput]) -> bool:
    """Whether the model takes exactly one instance at once."""
    return any(one.shape is not None and one.shape[:1] == (1,) for one in inputs)


def run(model: Run, tensors: Feed, *, singly: bool) -> list[Any]:
    """The outputs for all instances: in one call, or in one call per instance."""
    if not singly:
        return list(model(tensors))
    count = len(next(iter(tensors.values())))
    if count == 1:
        return list(model(tensors))
    import numpy

    results = [model({name: array[at : at + 1] for name, array in tensors.items()}) for at in range(count)]
    return [
        [value for one in parts for value in one] if isinstance(parts[0], list) else numpy.concatenate(parts)
        for parts in zip(*results)  # noqa: B905  # each call gives all outputs
    ]


def predictions(names: Sequence[str], results: Sequence[Any]) -> Instances:
    """One output's array as it is; of several outputs, one object per instance."""
    if len(results) == 1:
        return results[0]  # type: ignore[no-any-return]
    columns = [result if isinstance(result, list) else result.tolist() for result in results]
    return [dict(zip(names, row)) for row in zip(*columns)]  # noqa: B905


def _fitting(values: Any, wanted: TensorInput) -> numpy.ndarray:
    """The values as the array that an input wants. A dimension that is None may have any length."""
    array = tensor(values, wanted.dtype)
    shape = wanted.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(size is not None and size != found for size, found in zip(shape[1:], array.shape[1:]))  # noqa: B905
    ):
        sizes = ", ".join("any" if size is None else str(size) for size in shape[1:])
        raise BadInstances(f"Every instance of the input {wanted.name!r} must have the shape ({sizes}).")
    return array
