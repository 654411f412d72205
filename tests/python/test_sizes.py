"""Files and functions stay short enough to be read in one sitting."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["python", "rust", "tests", "benches", "tools"]
FILE_LINES, FUNCTION_LINES = 400, 60


def sources(*suffixes):
    """Source files of the repository with one of ``suffixes``."""
    if not (ROOT / "rust").is_dir():
        pytest.skip("the sources are not in this checkout")
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in suffixes]
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def long_functions(text):
    """Names of functions over the limit without a reason in a ``# Long: `` comment above them."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        documented = ast.get_docstring(node) is not None
        docstring = range(node.body[0].lineno, node.body[0].end_lineno + 1) if documented else ()
        code = [lines[i - 1].strip() for i in range(node.lineno, node.end_lineno + 1) if i not in docstring]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        reason = re.match(r"\s*# Long: \w", lines[first - 2]) if first > 1 else None
        if sum(bool(line) and not line.startswith("#") for line in code) > FUNCTION_LINES and not reason:
            yield node.name


def test_files_are_short():
    long = [name for name, text in sources(".py", ".pyi", ".rs") if text.count("\n") > FILE_LINES]
    assert not long, f"over {FILE_LINES} lines: {long}"


def test_functions_are_short():
    long = [f"{name}:{function}" for name, text in sources(".py") for function in long_functions(text)]
    assert not long, f"over {FUNCTION_LINES} lines without a reason: {long}"


@pytest.mark.parametrize(
    ("above", "lines", "found"),
    [
        ("", 59, []),
        ("", 60, ["f"]),
        ("# Long: one table.\n", 60, []),
        ("# Long: one table.\n@cache\n", 60, []),
        ("# Long:\n", 60, ["f"]),
        ("# Long: one table.\n\n", 60, ["f"]),
    ],
)
def test_the_length_of_a_function(above, lines, found):
    body = '    """Doc.\n\n    More.\n    """\n    # A comment.\n\n' + "    x = 1\n" * lines
    assert list(long_functions(f"{above}def f():\n{body}")) == found
