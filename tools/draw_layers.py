"""Draws docs/layers.svg: the layers of the package, of its folders and of the Rust core, and the imports between them.

    python tools/draw_layers.py [--check]

The rows are the layers of ``[tool.relkt.layers]`` in pyproject.toml. An arrow leads from a module to a module it
imports. Arrows that follow from other arrows are omitted (transitive reduction). ``--check`` writes nothing and exits
with 1 if the picture is out of date.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "layers.svg"
TITLES = {"package": "Python package: relkt", "rust": "Rust core: relkt-core"}

# Sizes in pixels.
CHARACTER, PADDING, BOX, GAP, ROW, MARGIN, HEAD = 8, 10, 26, 22, 62, 24, 40
SWEEPS = 12

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Panel:
    """A table of layers: its title, its rows from top to bottom, and who imports whom."""

    title: str
    rows: list[list[str]]
    imports: Graph

    @property
    def width(self) -> int:
        return max(row_width(row) for row in self.rows) + 2 * PADDING


def python_imports(path: Path, prefix: str) -> Iterator[str]:
    """Yield the modules directly below ``prefix`` that a Python file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix))


def rust_imports(path: Path) -> Iterator[str]:
    """Yield the modules of the core that a Rust file uses outside comments and unit tests."""
    for line in path.read_text(encoding="utf-8").split("#[cfg(test)]")[0].splitlines():
        yield from re.findall(r"\bcrate::(\w+)", line.split("//")[0])


def panel(table: str, rows: list[list[str]]) -> Panel:
    """Read the imports between the modules of a table."""
    package = ROOT / "python" / "relkt"
    top = {"package": package, "rust": ROOT / "rust" / "core" / "src"}.get(table, package.joinpath(*table.split(".")))
    prefix = "relkt." if table == "package" else f"relkt.{table}."
    imports: Graph = {name: set() for row in rows for name in row}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).parts[0].split(".")[0]
        if name in imports and path.suffix in {".py", ".pyi", ".rs"}:
            found = rust_imports(path) if path.suffix == ".rs" else python_imports(path, prefix)
            imports[name] |= {other for other in found if other in imports and other != name}
    title = TITLES.get(table, f"relkt.{table}")
    reduced = reduction(imports)
    return Panel(title, ordered(rows, reduced), reduced)


def reachable(graph: Graph, start: str) -> set[str]:
    """Return the modules that ``start`` imports, directly or not."""
    seen: set[str] = set()
    pending = [start]
    while pending:
        new = graph[pending.pop()] - seen
        seen |= new
        pending += new
    return seen


def reduction(graph: Graph) -> Graph:
    """Return the graph without edges that a longer path implies. The graph has no cycles."""
    indirect = {name: {far for near in graph[name] for far in reachable(graph, near)} for name in graph}
    return {name: graph[name] - indirect[name] for name in graph}


def ordered(rows: list[list[str]], graph: Graph) -> list[list[str]]:
    """Order the modules of each row by the average position of their neighbours, so that fewer arrows cross."""
    neighbours = {name: graph[name] | {other for other in graph if name in graph[other]} for name in graph}
    rows = [sorted(row) for row in rows]
    for _ in range(SWEEPS):
        for index, row in enumerate(rows):
            place = positions(rows)
            wanted = {
                name: sum(place[n] for n in neighbours[name]) / len(neighbours[name])
                if neighbours[name]
                else place[name]
                for name in row
            }
            rows[index] = sorted(row, key=lambda name: (round(wanted[name], 6), name))
    return rows


def row_width(row: list[str]) -> int:
    return sum(box_width(name) for name in row) + GAP * (len(row) - 1)


def box_width(name: str) -> int:
    return CHARACTER * len(name) + 2 * PADDING


def positions(rows: list[list[str]]) -> dict[str, float]:
    """Return the x coordinate of each box's centre, with every row centred at 0."""
    centres: dict[str, float] = {}
    for row in rows:
        x = -row_width(row) / 2
        for name in row:
            centres[name] = x + box_width(name) / 2
            x += box_width(name) + GAP
    return centres


def draw_panel(panel: Panel, left: int) -> Iterator[str]:
    """Yield the SVG elements of a panel: bands, then arrows, then boxes on top of the arrows."""
    middle = left + panel.width / 2
    x = {name: middle + offset for name, offset in positions(panel.rows).items()}
    y = {name: MARGIN + HEAD + ROW * index for index, row in enumerate(panel.rows) for name in row}
    yield f'<text class="title" x="{middle:g}" y="{MARGIN + 16}">{panel.title}</text>'
    for index in range(len(panel.rows)):
        top = MARGIN + HEAD + ROW * index - (ROW - BOX) / 2 + 6
        yield f'<rect class="band" x="{left}" y="{top:g}" width="{panel.width}" height="{ROW - 12}" rx="6"/>'
    for name in sorted(panel.imports):
        for other in sorted(panel.imports[name]):
            yield arrow(x[name], y[name], x[other], y[other])
    for name in sorted(x):
        width = box_width(name)
        yield f'<rect class="box" x="{x[name] - width / 2:g}" y="{y[name]}" width="{width}" height="{BOX}" rx="4"/>'
        yield f'<text class="name" x="{x[name]:g}" y="{y[name] + 18}">{name}</text>'


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """Draw an arrow from a box down to another, or below the boxes if they share a row."""
    if y0 == y1:
        low = y0 + BOX + 16
        path = f"M{x0:g},{y0 + BOX} C{x0:g},{low} {x1:g},{low} {x1:g},{y1 + BOX}"
    else:
        half = (y0 + BOX + y1) / 2
        path = f"M{x0:g},{y0 + BOX} C{x0:g},{half:g} {x1:g},{half:g} {x1:g},{y1}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def picture() -> str:
    """Return the whole SVG file."""
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["relkt"]["layers"]
    panels = [panel(table, rows) for table, rows in layers.items()]
    lefts = [MARGIN]
    for before, _ in pairwise(panels):
        lefts.append(lefts[-1] + before.width + MARGIN)
    width = lefts[-1] + panels[-1].width + MARGIN
    height = 2 * MARGIN + HEAD + ROW * max(len(panel.rows) for panel in panels)
    body = [line for panel, left in zip(panels, lefts, strict=True) for line in draw_panel(panel, left)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
            "<!-- Drawn by tools/draw_layers.py from the imports; do not edit. -->",
            "<style>",
            "text { font: 13px ui-monospace, monospace; text-anchor: middle; fill: #1f2430 }",
            ".title { font: bold 15px sans-serif }",
            ".band { fill: #eef1f8 }",
            ".box { fill: #ffffff; stroke: #3f51b5 }",
            ".arrow { fill: none; stroke: #8a93a6; stroke-width: 1.2 }",
            "</style>",
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
            '<path d="M0,0 L8,4 L0,8 z" fill="#8a93a6"/></marker>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write the picture, or compare it with the committed one."""
    drawn = picture()
    if "--check" not in arguments:
        PICTURE.write_text(drawn, encoding="utf-8")
        return 0
    if PICTURE.is_file() and PICTURE.read_text(encoding="utf-8") == drawn:
        return 0
    print(f"{PICTURE.relative_to(ROOT)} is out of date: run `python tools/draw_layers.py`")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
