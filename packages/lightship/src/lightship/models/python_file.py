"""A Python file with `load()` and `predict()`, or `generate()`: the way to serve what no engine knows.

Parsed, never imported.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

from lightship.errors import ProjectError
from lightship.models.damage import readable
from lightship.models.distributions import distribution_of, local_module
from lightship.models.documents import read_bounded
from lightship.models.model import Format, Model, Opening, Package

MAX_SOURCE = 1 << 20  # bytes
_WEIGHTS = frozenset(
    ".joblib .pkl .pickle .skops .onnx .safetensors .gguf .pt .pth .pt2 .ubj .cbm .json .txt .bin .keras .h5 .npy "
    ".npz .csv .parquet .model .yaml .yml".split()
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _recognises(opening: Opening) -> bool:
    if opening.path.suffix != ".py" or opening.size > MAX_SOURCE:
        return False
    try:
        functions = _functions(_parsed(opening.path))
    except ProjectError:
        return False
    return "load" in functions and not {"predict", "generate"}.isdisjoint(functions)


def _read(path: Path) -> Model:
    tree = _parsed(path)
    functions = _functions(tree)
    answers = "predict" if "predict" in functions or "generate" not in functions else "generate"
    missing = [f"{name}()" for name in ("load", answers) if name not in functions]
    if missing:
        raise ProjectError(
            f"{path} has no {' and no '.join(missing)}.",
            hint="Define load(), which returns the model, and predict(model, inputs), which answers.",
        )
    predict = functions[answers]
    data = tuple(sorted(_named_files(tree, path)))
    packages, code = _imports(tree, path)
    with readable(path):
        size = sum(file.stat().st_size for file in (path, *data))
    kind = "async " if isinstance(predict, ast.AsyncFunctionDef) else ""
    return Model(
        path=path,
        format="python",
        engine="python",
        size=size,
        dtype=None,
        files=tuple(sorted((path, *data))),
        packages=packages,
        details=(
            (answers, f"{kind}{answers}({', '.join(_parameters(predict))})"),
            ("answers", "as a stream" if _is_generator(predict) else "at once"),
            ("load", f"load({', '.join(_parameters(functions['load']))})"),
        ),
        code=(path, *code),
    )


def _parsed(path: Path) -> ast.Module:
    source = read_bounded(path, MAX_SOURCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the user's text is no business of ours
            return ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ProjectError(f"{path}{line} is no valid Python: {error}.", hint="Correct the file.") from None


def _functions(tree: ast.Module) -> dict[str, _Function]:
    """The functions of the module itself; the last definition of a name counts, as in Python."""
    return {node.name: node for node in tree.body if isinstance(node, _Function)}


def _parameters(function: _Function) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def _is_generator(function: _Function) -> bool:
    """Whether the function itself yields; functions inside of it are their own."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, _Function | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))
    return False


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node, without recursion: a long chain of operators is deep."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(ast.iter_child_nodes(node))


def _imports(tree: ast.Module, path: Path) -> tuple[tuple[Package, ...], tuple[Path, ...]]:
    """Distributions that the file imports, and the project's own modules."""
    packages: dict[str, Package] = {}
    code: set[Path] = set()
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        else:
            continue
        for module in modules:
            distribution = distribution_of(module)
            if distribution is None:
                continue
            if own := local_module(module, path.parent):
                code.add(own)
            else:
                packages.setdefault(distribution, Package(distribution, None, f"{path.name} imports {module}"))
    return tuple(packages[name] for name in sorted(packages)), tuple(sorted(code - {path}))


def _named_files(tree: ast.Module, path: Path) -> Iterator[Path]:
    """Files that texts in the source name, relative to its folder: what load() reads."""
    seen = set()
    for node in _nodes(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or text in seen or not 0 < len(text) < 250 or "\0" in text:
            continue
        seen.add(text)
        named = Path(text)
        if named.suffix.lower() in _WEIGHTS and not named.is_absolute() and ".." not in named.parts:
            candidate = path.parent / named
            if candidate.is_file():
                yield candidate


FORMAT = Format("Python file with load() and predict()", (".py",), _recognises, _read, certain=False)
