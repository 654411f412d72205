"""The package as a whole: what importing it costs, and who may import whom."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import relkt

PACKAGE = Path(relkt.__file__).parent
MODULES = [name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "relkt.")]

# A layer may import those after it, and itself.
LAYERS = [
    {"cli", "demo", "__main__"},
    {"app", "integrations", "reproduce"},
    {"retrieval"},
    {"training", "evaluation", "report", "distributed", "mining_files"},
    {"mining", "losses", "encoders", "data"},
    {"formats", "figures", "machine", "speed"},
    {"index"},
    {"ids"},
    {"arrays", "files"},
    {"errors"},
    {"_relkt"},
]
LIGHT = ["relkt", "relkt.index", "relkt.mining", "relkt.data", "relkt.integrations.semantic_search"]


def layer(module):
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(path):
    """Names of relkt's own modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module]
            if node.module == "relkt":
                names = [f"relkt.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("relkt."))


def test_imports_run_one_way():
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for other in imports(path):
            if other.startswith("__"):
                continue
            seen.add((part, other))
            assert layer(part) <= layer(other), f"{path} imports relkt.{other}, which lies above relkt.{part}"
    assert ("index", "_relkt") in seen
    assert ("training", "mining") in seen
    assert ("cli", "app") in seen
    assert ("app", "retrieval") in seen


def test_rust_modules_run_one_way():
    source = Path(__file__).parents[2] / "rust" / "core" / "src"
    if not source.is_dir():
        pytest.skip("the Rust sources are not beside the tests")
    order = [
        {"index_file"},
        {"mining", "limits"},
        {"search"},
        {"shortlist"},
        {"scan"},
        {"selection", "passages"},
        {"sketch"},
        {"quantize"},
        {"rotation"},
        {"matrix"},
        {"kernel", "top_k", "parallel", "buffer", "row_lists"},
        {"mapping"},
        {"error"},
    ]
    rank = {name: i for i, names in enumerate(order) for name in names}
    seen = 0
    for path in source.rglob("*.rs"):
        own = path.relative_to(source).parts[0].removesuffix(".rs")
        if own == "lib":
            continue
        for line in path.read_text().split("#[cfg(test)]")[0].splitlines():
            if line.startswith("use crate::"):
                other = line.removeprefix("use crate::").split("::")[0].rstrip(";")
                seen += 1
                assert rank[own] <= rank[other], f"{path}: {line}"
    assert seen > 10


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    if name == "relkt.__main__":
        pytest.skip("importing it runs the program")
    try:
        importlib.import_module(name)
    except ImportError as error:
        if "pip install 'relkt[" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_stay_light(name):
    heavy = "{m for m in ('torch', 'transformers', 'sentence_transformers', 'matplotlib') if m in sys.modules}"
    script = f"import sys, {name}; print({heavy} or 'none')"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "none\n"


def test_version_is_that_of_the_distribution():
    assert relkt.__version__ == version("relkt")


def test_public_names():
    assert set(relkt.__all__) == {*relkt._EXPORTS, "__version__", "formats"}
    for name in relkt.__all__:
        assert getattr(relkt, name) is not None
        assert name in dir(relkt)
    with pytest.raises(AttributeError, match="module 'relkt' has no attribute 'nothing'"):
        _ = relkt.nothing
