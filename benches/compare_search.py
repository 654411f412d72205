"""Exact top-k search: relkt compared with faiss IndexFlatIP (tuned and as installed), NumPy, torch, usearch (exact) and
sentence-transformers' semantic_search.

    python benches/compare.py search --preset readme --markdown table.md --json all.json
    python benches/compare.py search --data random:384 clustered real --queries 1 256 --threads 1 --k 10 100
    python benches/compare.py search --embeddings mine.npy --asked questions.npy

Each peer runs in its own process, because the OpenBLAS inside faiss and NumPy reads its settings once, at import. The
processes take turns in every repeat of every cell, so that noise of the machine affects all of them; medians are
compared. Before timing, every peer's result is checked against relkt's. All peers search the same unit rows; building
their indexes is not timed. Slow peers have fewer repeats, see --patience.

The headline ratio is to the fastest of tuned faiss, NumPy and torch. Tuned faiss has OPENBLAS_CORETYPE=SkylakeX,
because faiss' OpenBLAS uses an SSE kernel on newer processors, and faiss.cvar.distance_compute_blas_threshold = 1 for
more than one query, because faiss otherwise scans up to 19 queries one by one.

Data: "random"; "clustered" (around 1,000 centres); "real": encoded sentences and questions. The texts are from XQuAD in
all languages if --texts or the environment variable RELKT_XQUAD is its folder, otherwise from relkt-mini.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from machine import machine, write_report
from peers import drop_missing
from search_data import Data, Source, prepare
from search_peers import MODULES, PEERS, Worker, check, start
from search_report import RIVALS, describe, header, line, markdown

PRESETS: dict[str, dict[str, Any]] = {
    "readme": {
        "data": ["random:384", "random:512", "random:768", "clustered:384", "clustered:768", "real"],
        "k": [10, 100],
        "others_k": [10],
        "patience": 3.0,
        "pause": 0.1,
    },
    "smoke": {
        "rows": 5000,
        "data": ["random:64", "clustered:100"],
        "queries": [1, 16, 256],
        "threads": [1],
        "k": [10, 100],
        "repeats": 1,
    },
}
# Seconds from which the first run of a search is timed, too.
LONG = 1.0
# Number of queries in the search that index building is compared with, and in searches of an opened index.
BUILDING_QUERIES = 256
OPENED_QUERIES = (1, 256)


def sources(args: argparse.Namespace) -> list[Source]:
    """Data sources of --data, --dims, --texts, --model and --embeddings."""
    found = []
    for spec in args.data:
        kind, _, dim = spec.partition(":")
        if kind == "real":
            folder = args.texts or os.environ.get("RELKT_XQUAD")
            found.append(Source("real", texts=Path(folder) if folder else None, model=args.model))
        elif kind in ("random", "clustered"):
            found += [Source(kind, int(d)) for d in ([dim] if dim else args.dims)]
        else:
            raise SystemExit(f"--data: expected random, clustered, real, random:DIM or clustered:DIM, got {spec}")
    if args.embeddings:
        found.append(Source("given", embeddings=args.embeddings, asked=args.asked))
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    groups = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relkt-search-")))
        for source in sources(args):
            data = prepare(source, args.rows, max(args.queries), scratch, args.cache or scratch / "cache")
            for threads in args.threads:
                workers = start(args.peers, data, threads)
                groups.append(measure_group(workers, data, threads, args))
                for worker in workers.values():
                    worker.stop()
    return {
        "peers": args.peers,
        "repeats": args.repeats,
        "groups": groups,
        **machine("relkt", "numpy", "torch", "faiss-cpu", "usearch", "sentence-transformers"),
    }


def measure_group(workers: dict[str, Worker], data: Data, threads: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measures one data set with one number of threads."""
    relkt = workers["relkt"]
    group: dict[str, Any] = {"data": data.name, "rows": data.rows, "dim": data.dim, "threads": threads, "cells": []}
    group["limits"] = relkt.ask("limits")
    for k in args.k:
        for queries in args.queries:
            if queries > data.queries or k > data.rows:
                print(
                    f"{data.name}: skipping {queries} queries, k {k}: it has {data.rows} rows, {data.queries} queries"
                )
                continue
            group["cells"].append(measure(workers, threads, queries, k, args))
            print(line(group, group["cells"][-1], args.peers), flush=True)
    k, many = min(*args.k, data.rows), min(BUILDING_QUERIES, data.queries)
    group["building"] = relkt.ask("building", args.repeats)
    group["building_queries"] = many
    group["building_search"] = statistics.median(relkt.ask("search", many, k, False)[0] for _ in range(args.repeats))
    group["opened"] = relkt.ask("opened", sorted({min(q, data.queries) for q in OPENED_QUERIES}), k, 3 * args.repeats)
    print(describe(group), flush=True)
    return group


def measure(workers: dict[str, Worker], threads: int, queries: int, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measures one cell: checks the results of the peers, then returns medians of their times."""
    if args.others_k is not None and k not in args.others_k:
        workers = {peer: worker for peer, worker in workers.items() if peer in ("relkt", *RIVALS)}
    seconds: dict[str, list[float]] = {peer: [] for peer in workers}
    turns = {}
    expected = workers["relkt"].ask("search", queries, k, True)[1]
    for peer, worker in workers.items():
        took, hits = worker.ask("search", queries, k, True)
        check(peer, expected, hits)
        # A long run needs no warm-up.
        if took > LONG:
            seconds[peer].append(took)
        least = 0 if seconds[peer] and peer not in ("relkt", *RIVALS) else 1
        repeats = args.repeats if queries > 16 else 3 * args.repeats
        turns[peer] = max(least, min(repeats, int(args.patience / took)))
    for turn in range(max(turns.values())):
        for peer, worker in workers.items():
            if turn < turns[peer]:
                # Threads of OpenMP and OpenBLAS spin for a while after their work, on the cores of the next peer.
                time.sleep(args.pause if threads > 1 else 0)
                seconds[peer].append(worker.ask("search", queries, k, False)[0])
    return {
        "queries": queries,
        "k": k,
        "threads": threads,
        "scored": workers["relkt"].ask("scored", queries, k),
        "seconds": {peer: statistics.median(times) for peer, times in seconds.items()},
        "samples": {peer: len(times) for peer, times in seconds.items()},
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare.py search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), help="Defaults for the README's table, or for a short run."
    )
    parser.add_argument("--rows", type=int, default=200_000, help="Maximum; real data may have fewer.")
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 512, 768])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 256, 2048])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", nargs="*", default=["random"], help="random, clustered, real; random:384, ...")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--k", type=int, nargs="+", default=[10])
    parser.add_argument("--repeats", type=int, default=3, help="Repeats; three times as many for up to 16 queries.")
    parser.add_argument(
        "--patience", type=float, default=5.0, help="Maximum seconds for the repeats of a peer in a cell."
    )
    parser.add_argument("--pause", type=float, default=0.2, help="Seconds between peers that have several threads.")
    parser.add_argument("--others-k", type=int, nargs="*", help="k for peers other than tuned faiss, NumPy and torch.")
    parser.add_argument("--texts", type=Path, help="XQuAD's folder, for real data.")
    parser.add_argument("--model", default="muse", help="Encoder for real data: a name or a folder.")
    parser.add_argument("--cache", type=Path, help="Folder for cached embeddings.")
    parser.add_argument("--embeddings", type=Path, help="Own rows, (n, d) in a .npy file, as a further data set.")
    parser.add_argument("--asked", type=Path, help="Queries for own rows. Default: some of the rows.")
    parser.add_argument("--json", type=Path, help="File for all measurements.")
    parser.add_argument("--markdown", type=Path, help="File for the tables.")
    if preset := parser.parse_known_args(argv)[0].preset:
        parser.set_defaults(**PRESETS[preset])
    args = parser.parse_args(argv)
    drop_missing(args, MODULES)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    print(header(args.peers))
    report = run(args)
    write_report(report, markdown(report), args)


if __name__ == "__main__":
    main()
