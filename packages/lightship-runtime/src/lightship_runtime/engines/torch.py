"""PyTorch models that bring their own code: TorchScript (`torch.jit.save`) and exported programs (`.pt2`).

A file of `torch.save` is a pickle that needs the user's classes: serve it with a Python file. The tensor that goes
in is float32, instances first.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lightship_runtime.engines.arrays import tensor
from lightship_runtime.engines.engine import Engine, Instances, ModelSource, Options, Prediction, Signature
from lightship_runtime.errors import StartError


class TorchEngine(Engine):
    """A module, on the GPU where there is one, in inference mode."""

    packages: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    concurrent: ClassVar[bool] = False
    refused: ClassVar[tuple[type[Exception], ...]] = (ValueError,)

    def __init__(self, module: Any, device: str) -> None:
        self._module = module
        self._device = device

    @classmethod
    def load(cls, source: ModelSource) -> TorchEngine:
        import torch

        torch.set_num_threads(source.threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with source.verified() as file:  # both formats hold pickles, whatever their loaders do about it
            if source.model.format == "pt2":
                module = torch.export.load(file).module().to(device)
            elif source.model.format == "torchscript":
                module = torch.jit.load(file, map_location=device).eval()
            else:
                raise StartError(
                    f"{source.model.path} is a {source.model.format} file, which needs your own classes to load.",
                    hint="Save it with torch.export.save or torch.jit.save, or serve it with a Python file that has "
                    "load() and predict().",
                )
        return cls(module, device)

    @property
    def signature(self) -> Signature:
        return Signature()

    def predict(self, instances: Instances, options: Options) -> Prediction:
        import torch

        del options  # probabilities are refused by the signature
        batch = torch.from_numpy(tensor(instances, "float32")).to(self._device)
        try:
            with torch.inference_mode():
                result = self._module(batch)
        except (RuntimeError, AssertionError) as error:
            # A wrong shape is a plain RuntimeError, or an AssertionError of an exported program's guards. What is
            # no fault of the input, such as a lack of memory, has a type of its own.
            if type(error) in (RuntimeError, AssertionError):
                raise ValueError("the module refused the tensor") from error
            raise
        if not isinstance(result, torch.Tensor):
            raise RuntimeError(f"the module gave a {type(result).__name__}, not a tensor")
        return Prediction(result.cpu().tolist())
