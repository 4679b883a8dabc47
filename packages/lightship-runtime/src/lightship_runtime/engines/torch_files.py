"""PyTorch's files: how each becomes a module, and what it tells about its inputs."""

from __future__ import annotations

from typing import Any

from lightship_runtime.engines.code import run_file
from lightship_runtime.engines.engine import ModelSource
from lightship_runtime.engines.tensors import TensorInput
from lightship_runtime.errors import StartError


def load_module(source: ModelSource, device: str) -> tuple[Any, list[TensorInput]]:
    """The module and its inputs, in order. Raises StartError."""
    import torch

    kind = source.model.format
    if kind == "safetensors":
        return _network(source).to(device).eval(), [_stated(source)]
    if kind not in ("pt2", "torchscript"):
        raise StartError(
            f"{source.model.path} is a {kind} file, which needs your own classes to load.",
            hint="Save it with torch.export.save or torch.jit.save, save its weights as safetensors and name the "
            "network, or serve it with a Python file that has load() and predict().",
        )
    with source.verified() as file:  # both formats hold pickles, whatever their loaders do about it
        if kind == "pt2":
            program = torch.export.load(file)
            return program.module().to(device), _exported_inputs(program)
        script = torch.jit.load(file, map_location=device).eval()
        return script, _script_inputs(script, _stated(source))


def _network(source: ModelSource) -> Any:
    """The user's network with the file's weights: mapped into memory, not read, and shared by all processes.

    The network is built without memory for weights of its own where that works: one that computes values while it is
    built, or keeps some that are not saved, is built again in full. Either way the file's tensors take the place of
    its own, in their own type.
    """
    import torch
    from safetensors.torch import load_file

    if source.model.network is None:
        raise StartError(
            f"{source.model.path} holds weights alone, and nothing says which network they are for.",
            hint='Name what builds it: network = "net.py:Net" under [model].',
        )
    build = _builder(source, source.model.network)
    weights = load_file(source.path)
    try:
        with torch.device("meta"):
            network = build()
        _fill(network, weights, source)
        parts = (*network.parameters(), *network.buffers())
        if not any(part.is_meta for part in parts):
            return network
    except (NotImplementedError, RuntimeError):
        pass  # it needs real numbers to be built
    network = build()
    _fill(network, weights, source)
    return network


def _builder(source: ModelSource, network: str) -> Any:
    name, _, attribute = network.partition(":")
    build = getattr(run_file(source.app / name, name), attribute, None)
    if not callable(build):
        raise StartError(
            f"{name} has no {attribute}, which should build the network of {source.model.path}.",
            hint="Name a class or a function without arguments.",
        )
    return build


def _fill(network: Any, weights: dict[str, Any], source: ModelSource) -> None:
    import torch

    if not isinstance(network, torch.nn.Module):
        raise StartError(f"{source.model.network} gave a {type(network).__name__}, not a torch.nn.Module.")
    network.requires_grad_(requires_grad=False)
    missing, unexpected = network.load_state_dict(_with_ties(network, weights), strict=False, assign=True)
    if missing or unexpected:
        lacks = f" The file lacks {', '.join(missing[:5])}." if missing else ""
        extra = f" The network has no {', '.join(unexpected[:5])}." if unexpected else ""
        raise StartError(
            f"The weights in {source.model.path} are not those of {source.model.network}.{lacks}{extra}",
            hint="Name the network that they were saved from, with the same sizes.",
        )


def _with_ties(network: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """safetensors keeps one of several names that share a tensor; the network says which do."""
    names: dict[int, list[str]] = {}
    for name, value in network.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(name)
    tied = dict(weights)
    for same in names.values():
        held = next((name for name in same if name in weights), None)
        if held is not None:
            tied.update({name: weights[held] for name in same})
    return tied


def _stated(source: ModelSource) -> TensorInput:
    """The input as the configuration describes it."""
    model = source.model
    shape = None if model.input_shape is None else (None, *(None if n < 0 else n for n in model.input_shape))
    return TensorInput("input", model.input_dtype, shape)


def _script_inputs(script: Any, stated: TensorInput) -> list[TensorInput]:
    """Tensors that forward() needs, by name. The types of all are the stated one: the file does not say."""
    arguments = script.forward.schema.arguments[1:]
    needed = [one.name for one in arguments if not one.has_default_value()]
    return [TensorInput(name, stated.dtype, stated.shape) for name in needed] or [stated]


def _exported_inputs(program: Any) -> list[TensorInput]:
    """The user's inputs as the program was traced with; a length that may vary is None."""
    wanted = program.graph_signature.user_inputs
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs = []
    for name in wanted:
        value = values.get(name)
        if value is None or not hasattr(value, "shape"):
            raise StartError(f"The exported program's input {name!r} is no tensor.")
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        inputs.append(TensorInput(str(name), str(value.dtype).removeprefix("torch."), shape))
    return inputs
