"""Finds phrases that make a reader stop, in prose, docstrings, comments and messages.

    python tools/plain_english.py [PATH ...]

Prints ``file:line: phrase (use instead)`` and exits with 1 if it finds any. Without arguments it reads all tracked
Markdown, Python, Rust, TOML and HTML files. A line that ends in ``plain: ok`` is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PHRASES = {
    r"(?<!there )(?<!There )\b(is|was|are) no (?!longer|t\b)": "is not a ...",
    r"\b(is|are|was|were|has|have) none\b": "say it positively, or: has no ...",
    r"\bso (many|few) (?!that)": "a number or a noun",
    r"\b[Bb]eside\b": "next to, alongside, besides, as well as",
    r"\b(go|goes|went|gone|going) on\b(?! \w+ (for|with) )": "continue, resume",
    r"\b(want|wants) to (hear|know|be)\b": "needs, requires",
    r"\b[Ww]hat it (has|had|is|was|misses|needs|takes|gives|brings)\b": "a noun",
    r"\b[Ww]hat (comes|came|is there|is done|is left|they (are|have|had|give|take))\b": "a noun",
    r"\b[Ww]hoever\b": "anyone who, the caller",
    r"\banew\b": "again, from scratch",
    r"\b[Ss]omebody('s)?\b": "someone, another program, the caller",
    r"\b(of|by) (ours|theirs)\b": "written by relkt, its",
    r"\bours\b": "written by relkt, relkt's",
    r"\bhad better\b": "should",
    r"\bhears? (from|of)\b": "receives, is notified",
    r"\b(is|are|was|were|be) told\b": "is notified, receives",
    r"\b[Tt]old (of|when|what|about)\b": "receives, is called when",
    r"\bto and fro\b": "back and forth",
    r"\b(no|any|need|needs) more than any(body|one)\b": "too many",
    r"\bnobody\b": "no one, not ... anyone",
    r"\bin nobody's way\b": "harmless",
    r"\bis nothing\b": "is empty, has no effect",
    r"\bof its own accord\b": "by itself",
    r"\bnext to nothing\b": "near zero",
    r"\bwithal|thereof|whereof|hitherto|thereby\b": "plain words",
}
SUFFIXES = {".md", ".py", ".rs", ".toml", ".html", ".pyi"}
SKIPPED = ("THIRD_PARTY_LICENSES", "LICENSE", "python/relkt/data/mini/", "tools/plain_english.py", "docs/examples/data")


def files(arguments: list[str]) -> list[Path]:
    """The files to read: those of the arguments, or all tracked ones."""
    if arguments:
        found = [f for a in map(Path, arguments) for f in ([a] if a.is_file() else sorted(a.rglob("*")))]
    else:
        listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
        found = [Path(line) for line in listed.splitlines()]
    return [f for f in found if f.suffix in SUFFIXES and not f.as_posix().startswith(SKIPPED)]


def main(arguments: list[str]) -> int:
    """Print each phrase found; 1 if there is any."""
    patterns = [(re.compile(pattern), instead) for pattern, instead in PHRASES.items()]
    count = 0
    for path in files(arguments):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.rstrip().endswith("plain: ok"):
                continue
            for pattern, instead in patterns:
                for match in pattern.finditer(line):
                    count += 1
                    print(f"{path}:{number}: {match[0]!r} ({instead})")
    if count:
        print(f"{count} phrases; write them plainly")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
