"""PyTorch: TorchScript (`torch.jit.save`), exported programs (`.pt2`), and safetensors with a network of the user's.

A file of `torch.save` is a pickle that needs the user's classes: serve it with a Python file, or save the weights as
safetensors. An exported program knows its inputs; for the other two the configuration may say type and shape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from lightship_runtime.engines import tensors
from lightship_runtime.engines.engine import (
    Engine,
    Fork,
    Instances,
    ModelSource,
    Options,
    Prediction,
    Signature,
)
from lightship_runtime.engines.gpu import gpu_is_there
from lightship_runtime.engines.specs import learnt
from lightship_runtime.engines.torch_files import load_module


class TorchEngine(Engine):
    """A module, on the GPU where there is one, in inference mode."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)
    fork: ClassVar[Fork] = "one thread"  # a child of a process whose OpenMP pool has started hangs

    def __init__(self, module: Any, inputs: list[tensors.TensorInput], device: str) -> None:
        self._module = module
        self._inputs = inputs
        self._device = device
        self._singly = tensors.one_at_a_time(inputs)
        self._signature = Signature(
            kind="tensor", inputs=tuple(one.spec for one in inputs), example=tensors.example(inputs)
        )
        if all(one.shape is None for one in inputs):
            self._signature = replace(self._signature, inputs=() if len(inputs) == 1 else self._signature.inputs)
        elif self._signature.example is not None:
            self._signature = learnt(self._signature, self.predict)

    @classmethod
    def forking(cls) -> Fork:
        return "never" if gpu_is_there() else cls.fork

    @classmethod
    def load(cls, source: ModelSource) -> TorchEngine:
        import torch

        torch.set_num_threads(source.threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        module, inputs = load_module(source, device)
        return cls(module, inputs, device)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def batches(self) -> bool:
        return not self._singly

    def predict(self, instances: Instances, options: Options) -> Prediction:
        del options  # probabilities are refused by the signature
        self._names: list[str] = []
        results = tensors.run(self._run, tensors.feed(instances, self._inputs), singly=self._singly)
        return Prediction(tensors.predictions(self._names, results))

    def set_threads(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def _run(self, feed: Any) -> list[Any]:
        import torch

        batch = [torch.from_numpy(_writable(array)).to(self._device) for array in feed.values()]
        try:
            with torch.inference_mode():
                result = self._module(*batch)
        except (RuntimeError, AssertionError, IndexError) as error:
            # A wrong shape is a plain RuntimeError, or an AssertionError of an exported program's guards; a number
            # beyond an embedding's table an IndexError. What is no fault of the input, such as a lack of memory,
            # has a type of its own.
            if type(error) in (RuntimeError, AssertionError, IndexError):
                raise ValueError("the module refused the tensor") from error
            raise
        self._names, values = _named(result)
        return [_array(value) for value in values]


def _named(result: Any) -> tuple[list[str], list[Any]]:
    """Outputs by name: those of a dictionary have names, those of a tuple numbers."""
    if isinstance(result, dict):  # ModelOutput of transformers among them
        return [str(name) for name in result], list(result.values())
    if isinstance(result, (tuple, list)):
        return [f"output_{number}" for number in range(len(result))], list(result)
    return ["predictions"], [result]


def _array(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        raise RuntimeError(f"the module gave a {type(value).__name__}, not a tensor")
    value = value.cpu()
    # numpy has no bfloat16; float32 holds all of its values.
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _writable(array: Any) -> Any:
    """PyTorch has no read-only tensors, and an array over a request's bytes is one."""
    return array if array.flags.writeable else array.copy()
