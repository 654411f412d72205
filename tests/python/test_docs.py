"""Runs every code block of README.md and docs/.

The blocks of a page run in order, in a temporary folder. The first line of a block sets its kind:

- ``python`` is executed; the blocks of a page share a namespace;
- ``sh``: lines ``relkt ...`` run in this process, other lines in bash;
- ``toml`` without a title is parsed as the configuration of a training run;
- a block with ``title="NAME"`` is also written to that file.

A comment above a block changes this:

- ``<!-- not run: REASON -->``: the block is only parsed: Python is compiled, options of ``relkt`` and the existence of
  scripts are checked. Each of these blocks is a skipped test that shows the reason;
- ``<!-- output -->``: the block is the expected output of the block before it; ``...`` matches any text;
- ``<!-- setup``, followed by Python code up to ``-->``: code that runs before the block and is not displayed.

Any other block is an error. Small data replaces data that would take long: "relkt-mini" has fewer documents, and the
folder DIR holds a few documents in the layouts of XQuAD and BEIR.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest
import typer
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.data import DatasetName, load_data, save_beir
from relkt.data.beir import read_beir

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]
COMMENT = re.compile(r"<!--\s*(not run|output|setup)\b:?\s*(.*?)\s*-->", re.DOTALL)
DOCUMENTS = 2
OPERATORS = set("|<>&;$`")

pytestmark = pytest.mark.skipif(not PAGES, reason="the documentation is not in this checkout")


@dataclass(frozen=True)
class Block:
    """A fenced block with the comment above it."""

    page: str
    line: int
    kind: str
    title: str | None
    code: str
    mark: str | None
    note: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page, text):
    """Yield the code blocks of a page in order."""
    mark = None, ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            found = COMMENT.fullmatch(token.content.strip())
            mark = found.groups() if found else (None, "")
        elif token.type in ("fence", "code_block"):
            kind, _, rest = token.info.strip().partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            yield Block(page, token.map[0] + 1, kind, title and title[1], token.content, *mark)
            mark = None, ""
        elif token.type in ("paragraph_open", "heading_open", "table_open"):
            mark = None, ""


def commands(code):
    """Yield the lines of a shell block without comments, with continued lines joined."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def parse(block):
    """Check a block without running it."""
    if block.kind == "python":
        compile(block.code, str(block), "exec")
    elif block.kind == "toml":
        tomllib.loads(block.code)
    elif block.kind == "json":
        json.loads(block.code)
    elif block.kind == "sh":
        subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
        for line in commands(block.code):
            words = shlex.split(line, comments=True)
            for at, word in enumerate(words):
                script = words[at + 1] if word in ("python", "bash") and len(words) > at + 1 else ""
                if script.endswith((".py", ".sh")):
                    assert (ROOT / script).is_file(), f"{block}: {script} does not exist"
            if "relkt" in words and words[0] != "docker" and "$" not in line and not OPERATORS & set(words):
                parse_options(words[words.index("relkt") + 1 :], block)
    else:
        pytest.fail(f"{block}: unknown kind of block {block.kind!r}")


def parse_options(words, block):
    """Fail if the command line does not accept these words."""
    group = typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        return
    context = group.make_context("relkt", [], resilient_parsing=True)
    command = group.get_command(context, words[0])
    assert command is not None, f"{block}: unknown command {words[0]!r}"
    try:
        command.make_context(words[0], words[1:], parent=context)
    except click.UsageError as error:
        pytest.fail(f"{block}: {' '.join(words)}: {error.message}")


class Page:
    """The state between the blocks of a page: its namespace and the last output."""

    def __init__(self):
        self.names = {"__name__": "__main__"}
        self.printed = ""

    def run(self, block):
        if block.mark == "output":
            self.compare(block)
            return
        if block.mark == "setup":
            exec(compile(block.note, f"setup of {block}", "exec"), self.names)
        if block.title:
            Path(block.title).write_text(block.code, encoding="utf-8")
        if block.kind == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.code, str(block), "exec"), self.names)
            self.printed = printed.getvalue()
        elif block.kind == "sh":
            self.printed = "".join(self.command(line, block) for line in commands(block.code))
        elif block.kind == "toml" and not block.title:
            Path("block.toml").write_text(block.code, encoding="utf-8")
            relkt.TrainConfig.from_toml("block.toml")
        elif block.kind == "toml":
            relkt.TrainConfig.from_toml(block.title)
        elif not block.title:
            pytest.fail(f"{block}: unknown kind of block {block.kind!r}")

    def command(self, line, block):
        words = shlex.split(line, comments=True)
        if words[0] == "relkt" and not OPERATORS & set(words):
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{block}: {line}\n{result.output}\n{result.exception!r}"
            return result.stdout
        function = f'relkt() {{ {shlex.quote(sys.executable)} -m relkt "$@"; }}\n'
        done = subprocess.run(["bash", "-euc", function + line], capture_output=True, text=True)
        assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def compare(self, block):
        def plain(text):
            return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())

        pattern = re.escape(plain(block.code)).replace(r"\.\.\.", ".*")
        assert re.fullmatch(pattern, plain(self.printed), re.DOTALL), f"{block}: unexpected output\n{self.printed}"


BLOCKS = {
    str(path.relative_to(ROOT)): list(blocks(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
    for path in PAGES
}
NOT_RUN = [block for page in BLOCKS.values() for block in page if block.mark == "not run"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a few documents of relkt-mini in the layouts of BEIR and XQuAD."""
    mini = load_data("relkt-mini")
    documents = sorted({passage.document for passage in mini.passages})[:DOCUMENTS]
    passages = tuple(passage for passage in mini.passages if passage.document in documents)
    ids = {passage.id for passage in passages}
    queries = tuple(query for query in mini.queries if ids & mini.qrels[query.id].keys())
    qrels = {query.id: mini.qrels[query.id] for query in queries}
    folder = tmp_path_factory.mktemp("small") / "DIR"
    save_beir(replace(mini, passages=passages, queries=queries, qrels=qrels), folder)
    for language in mini.languages:
        asked = [query for query in queries if query.language == language]
        articles = [
            {
                "title": document,
                "paragraphs": [
                    {
                        "context": passage.text,
                        "qas": [
                            {"id": query.parallel, "question": query.text}
                            for query in asked
                            if passage.id in qrels[query.id]
                        ],
                    }
                    for passage in passages
                    if passage.document == document
                ],
            }
            for document in documents
        ]
        (folder / f"xquad.{language}.json").write_text(json.dumps({"data": articles}), encoding="utf-8")
    return folder


@pytest.fixture
def page_folder(tmp_path, monkeypatch, small):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").symlink_to(small)
    read = relkt.data.load._read

    def read_small(dataset, *arguments):
        return read_beir(small, "relkt-mini") if dataset is DatasetName.RELKT_MINI else read(dataset, *arguments)

    monkeypatch.setattr(relkt.data.load, "_read", read_small)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("page_folder")
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_run(name):
    page = Page()
    for block in BLOCKS[name]:
        if block.mark != "not run":
            try:
                page.run(block)
            except ImportError as error:
                if "CI" in os.environ or (error.name or "").startswith("relkt"):
                    raise
                pytest.skip(f"{block} needs an optional package: {error}")


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_blocks_not_run_are_valid(block):
    parse(block)
    assert block.note, f"{block}: expected a reason after `not run:`"
    pytest.skip(f"{block} is only parsed: {block.note}")


@pytest.mark.parametrize(
    "module",
    [
        "relkt",
        "relkt.formats",
        "relkt.data",
        "relkt.retrieval",
        "relkt.mining",
        "relkt.encoders",
        "relkt.training",
        "relkt.losses",
        "relkt.evaluation",
        "relkt.reproduce",
    ],
)
def test_the_reference_has_every_public_name(module):
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGES if path.parent.name == "api")
    named = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    content = importlib.import_module(module)
    names = getattr(content, "__all__", None) or [
        name
        for name, value in vars(content).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    names = [name for name in names if not name.startswith("__") and name != "formats"]
    assert names
    # Names that relkt itself exports appear under their shortest path.
    missing = [name for name in names if f"{module}.{name}" not in named and f"relkt.{name}" not in named]
    assert not missing, f"docs/api lacks {missing} of {module}"


def test_numbers_of_the_results_page_appear_on_the_detail_pages():
    number = re.compile(r"[0-9][0-9,]*\.[0-9]+|\.[0-9]+|[0-9],[0-9]{3}")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    others = "".join(path.read_text(encoding="utf-8") for path in PAGES if path.name not in ("results.md", "limits.md"))
    measured = set(number.findall(others)) | {found.removeprefix("0") for found in number.findall(others)}
    assert not set(number.findall(results)) - measured


def test_links_have_targets():
    for path in PAGES:
        for link in re.findall(r"\]\(([^)\s:]+)\)", path.read_text(encoding="utf-8")):
            target, _, anchor = link.partition("#")
            page = path.parent / target if target else path
            assert page.exists(), f"{path.relative_to(ROOT)} links to {link}, which does not exist"
            if anchor:
                slugs = {
                    slug(heading)
                    for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
                }
                assert anchor in slugs, f"{path.relative_to(ROOT)} links to {link}, but {page.name} lacks that heading"


def test_names_on_the_architecture_page_exist():
    page = ROOT / "docs" / "architecture.md"
    if not page.exists() or not (ROOT / "rust").exists():
        pytest.skip("the sources are not in this checkout")
    folders = [ROOT, ROOT / "python" / "relkt", ROOT / "rust" / "core" / "src"]
    files = [path for top in ("python", "rust", "tools", "tests") for path in (ROOT / top).rglob("*.*")]
    text = "".join(path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".rs"))
    words = set(re.findall(r"\w+", text))
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if re.search(r"NAME\b|[ =\[]|^--", code):  # a placeholder, a command or an option
            continue
        if re.search(r"/|\.(py|rs|toml)$", code):
            found = any((folder / code).exists() for folder in folders) or any(path.name == code for path in files)
            assert found, f"architecture.md names {code}, which does not exist"
        else:
            missing = set(re.findall(r"\w+", code)) - words
            assert not missing, f"architecture.md names {code}; no source contains {missing}"


def slug(heading):
    """Return the anchor that GitHub and mkdocs give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
