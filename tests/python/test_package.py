"""The package as a whole: which module imports which, what an import costs, and the public names."""

import ast
import graphlib
import importlib
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import relkt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = Path(relkt.__file__).parent
MODULES = [name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "relkt.")]
LIGHT = ["relkt", "relkt.index", "relkt.mining", "relkt.data", "relkt.integrations.semantic_search"]

# pyproject.toml describes the tables: "package" is relkt, "rust" the core, any other name a folder of relkt.
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["relkt"]["layers"]
EXPECTED_IMPORTS = {
    "package": {("index", "_relkt"), ("training", "mining"), ("cli", "app"), ("app", "retrieval")},
    "rust": {("search", "error"), ("mining", "search"), ("index_file", "quantize")},
}


def folder(table):
    """The folder whose modules a table lists."""
    if table == "rust":
        return ROOT / "rust" / "core" / "src"
    return PACKAGE if table == "package" else PACKAGE.joinpath(*table.split("."))


def module(path, top):
    """The name of a file's module in a table: the first part of its path below ``top``."""
    return path.relative_to(top).parts[0].split(".")[0]


def sources(table):
    """The files of each module of a table. A root file (``__init__``, ``lib``) is not a module."""
    top = folder(table)
    if not top.is_dir():
        pytest.skip("the Rust sources are not in this checkout")
    suffixes = {".rs"} if table == "rust" else {".py", ".pyi"}
    files = [path for path in sorted(top.rglob("*")) if path.suffix in suffixes]
    return [(module(path, top), path) for path in files if module(path, top) not in {"__init__", "lib"}]


def python_imports(path, prefix):
    """Names right below ``prefix`` that a Python file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix))


def rust_imports(path):
    """Names of the core's modules that a Rust file uses outside comments and unit tests."""
    for line in path.read_text(encoding="utf-8").split("#[cfg(test)]")[0].splitlines():
        assert "crate::{" not in line, f"{path}: one `use` per module"
        yield from re.findall(r"\bcrate::(\w+)", line.split("//")[0])


def imports(table):
    """Pairs ``(importing module, imported module)``, each with the importing file."""
    names = {name for name, _ in sources(table)}
    prefix = "relkt." if table == "package" else f"relkt.{table}."
    for name, path in sources(table):
        found = rust_imports(path) if table == "rust" else python_imports(path, prefix)
        yield from ((name, other, path) for other in found if other in names)


@pytest.mark.parametrize("table", LAYERS)
def test_layers_name_every_module_once(table):
    listed = [name for layer in LAYERS[table] for name in layer]
    assert sorted(listed) == sorted({name for name, _ in sources(table)}), f"[tool.relkt.layers] {table}"


@pytest.mark.parametrize("table", LAYERS)
def test_imports_run_one_way(table):
    rank = {name: i for i, layer in enumerate(LAYERS[table]) for name in layer}
    seen = set()
    for name, other, path in imports(table):
        seen.add((name, other))
        assert rank[name] <= rank[other], f"{path} imports {other}, a layer above {name}"
    assert seen >= EXPECTED_IMPORTS.get(table, set())


@pytest.mark.parametrize("table", LAYERS)
def test_imports_one_way_within_a_layer(table):
    order = graphlib.TopologicalSorter()
    for name, other, _ in imports(table):
        if name != other:
            order.add(name, other)
    order.prepare()  # raises CycleError, which names the modules


def test_training_consists_of_folders():
    flat = {path.stem for path in (PACKAGE / "training").glob("*.py")}
    if "training" not in LAYERS:
        pytest.skip("relkt.training has no table of layers yet")
    assert flat == {"__init__", "run", "preflight", "recipes"}


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


def test_version_matches_the_installed_distribution():
    assert relkt.__version__ == version("relkt")


def test_public_names():
    for name in relkt.__all__:
        assert getattr(relkt, name) is not None
        assert name in dir(relkt)
    with pytest.raises(AttributeError, match="module 'relkt' has no attribute 'nothing'"):
        _ = relkt.nothing
