"""Packages whose names are imported when they are first used."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

import relkt
from relkt._lazy import lazy_attach

ROOT = Path(relkt.__file__).parent
PACKAGES = [
    ".".join(path.relative_to(ROOT.parent).parent.parts)
    for path in sorted(ROOT.rglob("__init__.py"))
    if "lazy_attach(" in path.read_text()
]


def test_names_are_imported_on_first_use(monkeypatch):
    getattribute, names = lazy_attach("json", {"decimal": ["Decimal"], "nowhere": ["Thing"]}, submodules=["tool"])
    assert {"Decimal", "Thing", "tool", "dumps"} <= set(names())
    assert names() == sorted(names())
    monkeypatch.delitem(sys.modules, "json.tool", raising=False)
    assert getattribute("tool").__name__ == "json.tool"
    assert getattribute("Decimal").__name__ == "Decimal"
    with pytest.raises(ModuleNotFoundError):
        getattribute("Thing")
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'nothing'"):
        getattribute("nothing")


def test_a_name_equal_to_its_module_is_refused():
    with pytest.raises(ValueError, match=r"relkt\.x\.train hides its own 'train'"):
        lazy_attach("relkt.x", {"relkt.x.train": ["train"]})


def test_the_lazy_packages_are_found():
    assert {"relkt", "relkt.training", "relkt.retrieval"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package):
    tree = ast.parse((ROOT.parent.joinpath(*package.split(".")) / "__init__.py").read_text())
    (call,) = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "lazy_attach")
    lazy = ast.literal_eval(call.args[1])
    submodules = [name for keyword in call.keywords for name in ast.literal_eval(keyword.value)]
    block = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
    seen = {}
    for node in block.body:
        seen.setdefault(node.module, []).extend(alias.name for alias in node.names)
    assert sorted(seen.pop(package, [])) == sorted(submodules)
    assert {module: sorted(names) for module, names in seen.items()} == lazy
    names = [name for exports in lazy.values() for name in exports] + submodules
    module = importlib.import_module(package)
    assert set(names) <= set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
