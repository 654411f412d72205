"""Comparison of relkt with its peers, in one run on one machine.

python benches/compare.py search --help
python benches/compare.py mine --help
python benches/compare.py encode --help
"""

from __future__ import annotations

import sys

import compare_encode
import compare_mine
import compare_search

COMMANDS = {"search": compare_search.main, "mine": compare_mine.main, "encode": compare_encode.main}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(f"{(__doc__ or '').strip()}\n\nexpected one of {', '.join(COMMANDS)}")
    COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
