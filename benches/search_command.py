"""Times ``relkt search`` on an index of many passages, as reported by the command.

The index has random unit rows, which are the hardest case, and generated texts. The time includes opening both files,
the search, and reading the texts of the results. Every repeat starts a new process, as a user does. Loading the encoder
and encoding the question are reported separately.

    python benches/search_command.py --passages 200000 --repeat 5
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from relkt import Index, load_encoder
from relkt.encoders import model_checksum
from relkt.machine import machine
from relkt.retrieval.passages import BUILD
from relkt.retrieval.sources import from_passages
from relkt.retrieval.store import write_store
from relkt.speed import random_rows

QUESTION = "ทำไมทะเลถึงมีน้ำขึ้นน้ำลง"
NOTE = re.compile(r"index opened and searched in (\d+) ms, encoder loaded in ([\d.]+) s, questions encoded in (\d+) ms")


def write_index(path: Path, passages: int) -> None:
    encoder = load_encoder("muse", device="cpu")
    records = [
        {"id": f"passage {row}", "text": f"Passage number {row}. " * 30, "document": str(row // 5), "language": "en"}
        for row in range(passages)
    ]
    notes = {BUILD: "random", "encoder": "muse", "encoder_checksum": model_checksum(encoder)}
    texts = path.with_suffix(".passages.arrow")
    write_store(from_passages(records), texts, notes)
    rows = random_rows(passages, encoder.get_embedding_dimension() or 0)
    batches = np.array_split(rows, 16)
    ids = [record["id"] for record in records]
    Index.build(path, batches, rows=passages, ids=ids, texts=texts.name, metadata={BUILD: "random"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.relkt"
        write_index(path, args.passages)
        runs = []
        for _ in range(args.repeat):
            command = [
                sys.executable,
                "-m",
                "relkt",
                "search",
                str(path),
                QUESTION,
                "-k",
                str(args.k),
                "--device",
                "cpu",
            ]
            done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
            found = NOTE.search(" ".join(done.stderr.split()))
            assert found is not None, done.stderr
            assert len(json.loads(done.stdout)["passages"]) == args.k
            runs.append([float(value) for value in found.groups()])
    searched, loaded, encoded = (median(values) for values in zip(*runs, strict=True))
    worst = max(run[0] for run in runs)
    used = machine("relkt")
    print(f"{args.passages:,} passages of 512, k = {args.k}, {used['cpu']}, {used['cores']} cores")
    print(f"open, search, read texts: median {searched:.0f} ms, at most {worst:.0f} ms of {args.repeat} runs")
    print(f"load the encoder: {loaded:.1f} s; encode the question: {encoded:.0f} ms")


if __name__ == "__main__":
    main()
