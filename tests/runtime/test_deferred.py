"""Stand-ins for modules: what libraries do with names while they are imported works; a use brings the real thing."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAVY = """
import sys
sys.loaded = getattr(sys, "loaded", 0) + 1
from . import part
class Base:
    def __init__(self, value=1): self.value = value
def double(x): return 2 * x
class Table(dict): pass
"""
# What a library that uses `heavy` does while it is imported.
LIGHT = """
import heavy
import heavy as h
from heavy import Base, double
import top.heavy
from top import heavy as inner
def use(x): return double(x)
def check(x): return isinstance(x, Base)
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for folder in ("heavy", "top/heavy"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").write_text(HEAVY)
        (tmp_path / folder / "part.py").write_text("NAME = __name__\n")
    (tmp_path / "top" / "__init__.py").write_text("")
    (tmp_path / "light.py").write_text(LIGHT)
    return tmp_path


def run(packages: Path, code: str) -> str:
    program = (
        "import sys\nfrom lightship_runtime.deferred import deferring\n"
        "def loaded(): return getattr(sys, 'loaded', 0)\n"
    )
    command = [sys.executable, "-c", program + textwrap.dedent(code)]
    result = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_is_not_used_is_not_imported(packages: Path) -> None:
    code = """
    with deferring(["heavy", "top.heavy"]) as deferral:
        import light
    print(deferral.pending, loaded())
    """
    assert run(packages, code) == "['heavy', 'top.heavy'] 0\n"


@pytest.mark.parametrize(
    ("use", "shown"),
    [
        ("light.use(4)", "8"),
        ("light.check(1)", "False"),
        ("light.check(__import__('heavy').Base())", "True"),
        ("type('Mine', (), {}) and __import__('types').new_class('Mine', (light.Base,))().value", "1"),
        ("light.h.double(3)", "6"),
        ("light.inner.part.NAME", "top.heavy.part"),
        ("light.Base.__name__", "Base"),
        ("issubclass(dict, light.heavy.Table)", "False"),
        ("__import__('pickle').loads(__import__('pickle').dumps(light.double))(1)", "2"),
    ],
)
def test_a_use_brings_the_real_module(packages: Path, use: str, shown: str) -> None:
    code = f"""
    with deferring(["heavy", "top.heavy"]):
        import light
    print({use}, loaded() >= 1)
    """
    assert run(packages, code) == f"{shown} True\n"


def test_a_submodule_brings_its_package_and_is_imported_once(packages: Path) -> None:
    code = """
    with deferring(["heavy"]) as deferral:
        import light
        import heavy.part
        from heavy.part import NAME
    import heavy as later
    print(NAME, loaded(), deferral.pending, heavy.part is later.part, later.double(1), light.use(2))
    """
    assert run(packages, code) == "heavy.part 2 [] True 2 4\n"  # once heavy, and top.heavy, which was not deferred


def test_resolving_brings_everything_and_nothing_is_stood_in_for_any_more(packages: Path) -> None:
    code = """
    with deferring(["heavy", "top.heavy", "absent"]) as deferral:
        import light
        deferral.resolve()
        import heavy
        print(type(heavy).__name__, loaded(), deferral.pending)
    print([one for one in sys.meta_path if type(one).__name__ == 'Deferral'], light.use(1))
    """
    assert run(packages, code) == "module 2 []\n[] 2\n"


def test_what_is_imported_already_stays_as_it_is(packages: Path) -> None:
    code = """
    import heavy
    with deferring(["heavy"]) as deferral:
        import light
    print(light.heavy is heavy, deferral.pending)
    """
    assert run(packages, code) == "True []\n"


def test_scikit_learn_predicts_without_what_it_never_uses(iris_app: Path) -> None:
    code = f"""
    from lightship_runtime.engines.sklearn import SklearnEngine
    with deferring(SklearnEngine.deferred) as deferral:
        import joblib
        model = joblib.load({str(iris_app / "model.joblib")!r})
    print(model.predict([[5.1, 3.5, 1.4, 0.2]]).tolist(), "scipy.stats" in deferral.pending)
    from scipy.stats import rankdata
    import scipy.stats._stats_py
    print(rankdata([3, 1, 2]).tolist(), deferral.pending)
    deferral.resolve()
    import numpy.testing
    numpy.testing.assert_equal(1, 1)
    """
    assert run(iris_app, code).startswith("['setosa'] True\n[3.0, 1.0, 2.0] ")
