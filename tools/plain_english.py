"""Find phrases that make a reader stop, in prose, docstrings, comments, messages and the names of functions.

    python tools/plain_english.py [PATH ...]

Prints ``file:line: phrase (use instead)`` and exits with 1 if there are any. Without arguments it reads all tracked
Markdown, Python, Rust, TOML and HTML files. tools/plain_english.toml lists the phrases. A justified exception ends its
line with ``plain: ok``.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from bisect import bisect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).with_suffix(".toml")
SUFFIXES = {".md", ".py", ".rs", ".toml", ".html", ".pyi"}
SKIPPED = (
    "THIRD_PARTY_LICENSES",
    "LICENSE",
    "docs/examples/data",
    "python/relkt/data/mini/",
    "tests/python/tools/test_plain_english.py",
    "tools/plain_english.toml",
)
LINE_BREAK = re.compile(r'(?<=[^\s"])"?[ \t]*\n[ \t]*(?:#|//[/!]?|f?")?[ \t]*(?=\S)|(?<=[^\s"])[ \t]+"\n[ \t]*f?"')
"""A line break within a paragraph, a comment or a string of several parts."""
DOCUMENTATION = re.compile(r'^[ \t]*(?:r?"""|//!|///)[ \t]*', re.MULTILINE)
NAME = re.compile(r"\b(?:def|class|fn|struct|enum|mod) +(\w+)")


class Rule(NamedTuple):
    """A phrase to avoid."""

    find: re.Pattern[str]
    use: str


class Finding(NamedTuple):
    """A phrase that was found, and the line where it starts."""

    line: int
    phrase: str
    use: str


@cache
def rules(kind: str) -> list[Rule]:
    """The rules of a kind, ``phrase`` or ``opening``."""
    return [Rule(re.compile(r["find"]), r["use"]) for r in tomllib.loads(LIST.read_text(encoding="utf-8"))[kind]]


def prose_of_python(text: str) -> str:
    """The text with all but comments and strings blanked."""
    lines = text.splitlines(keepends=True)
    blank = [re.sub(r"\S", " ", line) for line in lines]
    kept = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in kept:
            continue
        (first, start), (last, end) = token.start, token.end
        for i in range(first - 1, last):
            a, b = (start if i == first - 1 else 0), (end if i == last - 1 else len(lines[i]))
            blank[i] = blank[i][:a] + lines[i][a:b] + blank[i][b:]
    return "".join(blank)


def joined(text: str) -> tuple[str, list[int]]:
    """The text with paragraphs on one line, and the offset in it where each original line starts."""
    parts, starts, offset, position = [], [0], 0, 0
    for match in LINE_BREAK.finditer(text):
        part = text[position : match.start()]
        starts += [offset + i + 1 for i, character in enumerate(part) if character == "\n"]
        parts += [part, " "]
        offset += len(part) + 1
        starts += [offset] * match[0].count("\n")
        position = match.end()
    rest = text[position:]
    starts += [offset + i + 1 for i, character in enumerate(rest) if character == "\n"]
    return "".join([*parts, rest]), starts


def findings(text: str, suffix: str) -> list[Finding]:
    """All phrases to avoid in the text of a file, by line."""
    found = set(_findings(text, prose_of_python(text) if suffix in {".py", ".pyi"} else text))
    lines = text.split("\n")
    return sorted(f for f in found if not lines[f.line - 1].rstrip().endswith("plain: ok"))


def _findings(text: str, prose: str) -> Iterator[Finding]:
    one_line, starts = joined(prose)
    names = [(match, match[1].replace("_", " ")) for match in NAME.finditer(text)]
    for rule in rules("phrase"):
        for match in rule.find.finditer(one_line):
            yield Finding(bisect(starts, match.start()), match[0].strip(), rule.use)
        for name, words in names:
            if found := rule.find.search(words):
                yield Finding(text.count("\n", 0, name.start()) + 1, found[0].strip(), rule.use)
    for rule in rules("opening"):
        for documentation in DOCUMENTATION.finditer(prose):
            previous = prose[: documentation.start()].rpartition("\n")[0].rpartition("\n")[2].strip()
            first = not previous.startswith(("///", "//!")) or previous in {"///", "//!"}
            if first and (found := rule.find.match(prose, documentation.end())):
                yield Finding(prose.count("\n", 0, documentation.start()) + 1, found[0].strip(), rule.use)


def files(arguments: list[str]) -> list[Path]:
    """The files to read: those of the arguments, or all tracked ones."""
    if arguments:
        found = [f for a in map(Path, arguments) for f in ([a] if a.is_file() else sorted(a.rglob("*")))]
    else:
        listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
        found = [Path(line) for line in listed.splitlines()]
    return [f for f in found if f.suffix in SUFFIXES and f.is_file() and not f.as_posix().startswith(SKIPPED)]


def main(arguments: list[str]) -> int:
    """Print the phrases found; 1 if there are any."""
    count = 0
    for path in files(arguments):
        for line, phrase, use in findings(path.read_text(encoding="utf-8"), path.suffix):
            count += 1
            print(f"{path}:{line}: {phrase!r} ({use})")
    if count:
        print(f"{count} phrases to rewrite")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
