"""Encoders of texts as ONNX: PyTorch's own exporter, with batches and texts of any length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from lightship.optimize.inside.canonical import canonical
from lightship.optimize.inside.graph import plain
from lightship.optimize.inside.opset import STANDARD
from lightship.optimize.inside.refusal import Refusal

_LARGEST = (2 << 30) - (64 << 20)  # bytes of weights: what a file of Protocol Buffers can hold, besides the rest


def exported(network: Any, answer: Callable[[dict[str, Any]], Any], names: Sequence[str]) -> Any:
    """A ModelProto that takes `names` and gives what `answer` makes of them.

    Args:
        network: The module whose weights `answer` uses.
        answer: From tensors by name to one tensor.

    Raises: `Refusal` where the network is too large, or where the exporter cannot follow it.
    """
    import torch

    size = sum(each.numel() * 4 for each in network.parameters())
    if size > _LARGEST:
        raise Refusal(
            f"its weights are {size >> 20} MiB in single precision, and a file of ONNX holds {_LARGEST >> 20}",
            "Leave [optimize] onnx out: the model is served as it is.",
        )

    class Graph(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.network = network.float()

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            return answer({name: inputs[name] for name in names}).float()

    example = {name: torch.ones(2, 7, dtype=torch.long) for name in names}
    example["input_ids"] = torch.arange(14).reshape(2, 7) % 5 + 1
    if "token_type_ids" in example:
        example["token_type_ids"] *= 0
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Graph().eval(),
                (),
                kwargs=example,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(example, axes),
                output_names=["answer"],
                opset_version=STANDARD,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:  # whatever the exporter stumbles over
        cause = error.__cause__ or error  # the exporter's own error is advice for its developers
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
        raise Refusal(
            f"PyTorch cannot export it: {first}",
            "Leave [optimize] onnx out; or try newer versions of torch and transformers.",
        ) from error
    plain(proto)
    for each in (*proto.graph.input, *proto.graph.output):
        axis = each.type.tensor_type.shape.dim
        axis[0].dim_param = "batch"  # the exporter numbers them
        if not axis[1].dim_value:
            axis[1].dim_param = "sequence"
    canonical(proto)
    return proto
