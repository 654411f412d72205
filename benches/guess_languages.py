"""Accuracy of the language guesses of ``relkt serve``: the table in docs/serve.md.

python benches/guess_languages.py [--xquad DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from relkt.app.languages import LanguageGuesser
from relkt.data import RetrievalData, load_data


def row(name: str, data: RetrievalData, guesser: LanguageGuesser) -> str:
    """Formats a row of the table."""
    guesses = [(query.language, guesser.guess(query.text)) for query in data.queries]
    sure = [language == guess.code for language, guess in guesses if guess.is_sure]
    return f"| {name} | {len(guesses):,} | {len(sure) / len(guesses):.1%} | {sum(sure) / len(sure):.1%} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xquad", type=Path, help="folder with XQuAD's files")
    path = parser.parse_args().xquad
    guesser = LanguageGuesser()
    print("| | questions | sure | of these right |\n|---|---:|---:|---:|")
    print(row("relkt-mini", load_data("relkt-mini"), guesser))
    if path is not None:
        print(row("XQuAD", load_data("xquad", path=path), guesser))


if __name__ == "__main__":
    main()
