"""tools/draw_layers.py: the committed picture of the layers matches the imports."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tools" / "draw_layers.py"


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.exists():
        pytest.skip("the tools are not in this checkout")
    spec = importlib.util.spec_from_file_location("draw_layers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_picture_is_up_to_date(script):
    assert script.picture() == script.PICTURE.read_text(encoding="utf-8"), "run: python tools/draw_layers.py"


def test_check_fails_on_a_stale_picture(script, monkeypatch, tmp_path, capsys):
    assert script.main(["--check"]) == 0
    stale = tmp_path / "layers.svg"
    stale.write_text("<svg/>")
    monkeypatch.setattr(script, "PICTURE", stale)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "picture", lambda: "<svg></svg>")
    assert script.main(["--check"]) == 1
    assert capsys.readouterr().out == "layers.svg is out of date: run `python tools/draw_layers.py`\n"


def test_reduction_keeps_edges_that_no_longer_path_implies(script):
    graph = {"cli": {"index", "errors"}, "index": {"errors"}, "errors": set()}
    assert script.reduction(graph) == {"cli": {"index"}, "index": {"errors"}, "errors": set()}


def test_rows_are_ordered_by_their_neighbours(script):
    graph = {"a": {"y"}, "b": {"x"}, "x": set(), "y": set()}
    top, bottom = script.ordered([["a", "b"], ["x", "y"]], graph)
    assert [next(iter(graph[name])) for name in top] == bottom
