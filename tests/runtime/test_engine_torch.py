"""PyTorch's three formats: bit for bit what the module gives, and weights that stay mapped from their file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from engine_checks import load, same

from lightship_runtime.engines import BadInstances, Options, TensorSpec
from lightship_runtime.errors import ConfigError, IntegrityError, StartError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = numpy.random.default_rng(0).normal(size=(5, 4)).astype(numpy.float32)
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 8)
        self.outer = torch.nn.Linear(8, 3)
        self.register_buffer("shift", torch.arange(3.0), persistent=False)
    def forward(self, rows):
        return self.outer(torch.relu(self.inner(rows))) + self.shift
class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight
    def forward(self, numbers):
        return self.head(self.table(numbers))
class Pair(torch.nn.Module):
    def forward(self, left, right):
        return {"sum": left + right, "product": left * right}
number = 3
def nothing():
    return 3
"""


@pytest.fixture
def nets(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "net.py").write_text(NET)
    found: dict[str, Any] = {}
    exec(compile(NET, str(tmp_path / "net.py"), "exec"), found)
    torch.manual_seed(0)
    return found


def direct(module: Any, *tensors: Any) -> Any:
    with torch.inference_mode():
        return module(*map(torch.from_numpy, tensors))


def test_torchscript(tmp_path: Path, nets: dict[str, Any]) -> None:
    module = torch.jit.trace(nets["Net"]().eval(), torch.from_numpy(ROWS))
    module.save(str(tmp_path / "model.pt"))
    engine = load(tmp_path / "model.pt", "torchscript", "torch", input_shape=(4,))
    wanted = direct(module, ROWS).numpy()
    for rows in (ROWS, ROWS.tolist()):
        assert same(engine.predict(rows, Options()).predictions, wanted)
    assert engine.signature.inputs == (TensorSpec("rows", "FP32", (-1, 4)),)
    assert engine.signature.outputs == (TensorSpec("predictions", "FP32", (-1, 3)),)
    assert engine.signature.example == [1.0] * 4
    with pytest.raises(BadInstances):
        engine.predict([[1.0]], Options())
    unknown = load(tmp_path / "model.pt", "torchscript", "torch")
    assert (unknown.signature.inputs, unknown.signature.example) == ((), None)
    with pytest.raises(unknown.refused):
        unknown.predict([[1.0]], Options())


def test_an_exported_program(tmp_path: Path, nets: dict[str, Any]) -> None:
    batch = torch.export.Dim("batch", min=1, max=1000)
    program = torch.export.export(nets["Net"]().eval(), (torch.from_numpy(ROWS),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    engine = load(tmp_path / "model.pt2", "pt2", "torch")
    assert same(engine.predict(ROWS, Options()).predictions, direct(program.module(), ROWS).numpy())
    assert engine.signature.inputs == (TensorSpec("rows", "FP32", (-1, 4)),)
    assert engine.batches
    with pytest.raises(BadInstances):
        engine.predict([[1.0, 2.0]], Options())


def test_an_exported_program_for_one_instance_is_asked_once_for_each(tmp_path: Path, nets: dict[str, Any]) -> None:
    program = torch.export.export(nets["Net"]().eval(), (torch.from_numpy(ROWS[:1]),))
    torch.export.save(program, tmp_path / "model.pt2")
    engine = load(tmp_path / "model.pt2", "pt2", "torch")
    assert not engine.batches
    wanted = numpy.concatenate([direct(program.module(), ROWS[at : at + 1]).numpy() for at in range(5)])
    assert same(engine.predict(ROWS, Options()).predictions, wanted)


def test_several_inputs_and_outputs_have_names(tmp_path: Path, nets: dict[str, Any]) -> None:
    pair = torch.jit.script(nets["Pair"]())
    pair.save(str(tmp_path / "model.pt"))
    engine = load(tmp_path / "model.pt", "torchscript", "torch", input_dtype="int64", input_shape=(2,))
    assert [one.name for one in engine.signature.inputs] == ["left", "right"]
    found = engine.predict([{"left": [1, 2], "right": [3, 4]}], Options()).predictions
    assert found == [{"sum": [4, 6], "product": [3, 8]}]
    assert {one.name for one in engine.signature.outputs} == {"sum", "product"}


def test_safetensors_with_a_network_stay_mapped_from_the_file(tmp_path: Path, nets: dict[str, Any]) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    net = nets["Net"]().eval()
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    engine = load(path, "safetensors", "torch", network="net.py:Net", input_shape=(4,))
    assert same(engine.predict(ROWS, Options()).predictions, direct(net, ROWS).numpy())
    module = engine._module  # type: ignore[attr-defined]
    assert _lies_in(module.inner.weight.data_ptr(), path)


def _lies_in(address: int, path: Path) -> bool:
    """Whether an address of this process belongs to a mapping of the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        if int(start, 16) <= address < int(end, 16):
            return line.endswith(str(path))
    return False


def test_tied_weights_that_the_file_holds_once(tmp_path: Path, nets: dict[str, Any]) -> None:
    save_model = pytest.importorskip("safetensors.torch").save_model
    net = nets["Tied"]().eval()
    save_model(net, str(tmp_path / "model.safetensors"))
    more = {"network": "net.py:Tied", "input_dtype": "int64", "input_shape": (3,)}
    engine = load(tmp_path / "model.safetensors", "safetensors", "torch", **more)
    numbers = numpy.array([[1, 2, 3], [4, 5, 6]])
    assert same(engine.predict(numbers, Options()).predictions, direct(net, numbers).numpy())
    with pytest.raises(engine.refused):
        engine.predict([[1, 2, 99]], Options())
    with pytest.raises(BadInstances):
        engine.predict([[1.5, 2, 3]], Options())


@pytest.mark.parametrize(
    ("network", "fault"),
    [
        (None, "weights alone"),
        ("net.py:Tied", "not those of"),
        ("net.py:number", "has no number"),
        ("net.py:nothing", "gave a int"),
        ("other.py:Net", "not a Python file"),
    ],
)
def test_a_network_that_does_not_fit_is_explained(
    tmp_path: Path, nets: dict[str, Any], network: str | None, fault: str
) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(nets["Net"]().state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(StartError, match=fault):
        load(tmp_path / "model.safetensors", "safetensors", "torch", network=network)


def test_a_network_outside_of_the_app_is_no_configuration(tmp_path: Path) -> None:
    from lightship_runtime.config import load_config

    path = tmp_path / "serve.json"
    path.write_text(
        '{"model": {"path": "m.safetensors", "format": "safetensors", "engine": "torch", "network": "../n.py:N"}}'
    )
    with pytest.raises(ConfigError, match="stay inside"):
        load_config(path, {})


def test_a_file_that_was_exchanged_is_not_loaded(tmp_path: Path, nets: dict[str, Any]) -> None:
    torch.jit.script(nets["Pair"]()).save(str(tmp_path / "model.pt"))
    with pytest.raises(IntegrityError):
        load(tmp_path / "model.pt", "torchscript", "torch", sha256=hashlib.sha256(b"another").hexdigest())
