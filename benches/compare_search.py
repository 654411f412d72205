"""Exact top-k search: relkt against faiss IndexFlatIP (tuned and as installed), NumPy and torch.

    python benches/compare.py search [--rows 200000] [--dims 384 512 768] [--queries 1 16 256 2048] [--json out.json]

Each peer runs in a process of its own, because the OpenBLAS inside faiss and NumPy reads its settings once, when it is
loaded. The processes take turns, cell by cell and repeat by repeat, so that a noisy machine is noisy for all of them;
medians are compared, and every peer's result is checked against relkt's before anything is timed. All of them search
the same unit-norm rows; what a peer does once (building its index) is not timed.

Tuned faiss: OPENBLAS_CORETYPE=SkylakeX, because faiss' OpenBLAS does not know newer processors and falls back to an
SSE kernel, and faiss.cvar.distance_compute_blas_threshold = 1 for more than one query, because it scans query by query
below 20 queries.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import statistics
import time
from pathlib import Path

import numpy as np
from machine import machine

PEERS = ("relkt", "faiss-tuned", "faiss", "numpy", "torch")
SEED = 7
PAUSE = 0.2


def make_data(kind: str, rows: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm float32 passages and queries: independent ("random"), or around 1,000 centres ("clustered")."""
    rng = np.random.default_rng(SEED)
    if kind == "random":
        passages = rng.standard_normal((rows, dim), dtype=np.float32)
        asked = rng.standard_normal((queries, dim), dtype=np.float32)
    else:
        centres = rng.standard_normal((1000, dim), dtype=np.float32)
        noise = 0.5
        passages = centres[rng.integers(0, 1000, rows)] + noise * rng.standard_normal((rows, dim), dtype=np.float32)
        asked = centres[rng.integers(0, 1000, queries)] + noise * rng.standard_normal((queries, dim), dtype=np.float32)
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return passages, asked


def searcher(peer: str, passages: np.ndarray, threads: int):
    """A function (queries, k) -> (scores, indices) over passages that are already indexed."""
    if peer == "relkt":
        import relkt

        index = relkt.Index(passages, threads=threads)
        return lambda q, k: tuple(index.search(q, k, threads=threads))
    if peer.startswith("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
        flat = faiss.IndexFlatIP(passages.shape[1])
        flat.add(passages)

        def search(q: np.ndarray, k: int):
            if peer == "faiss-tuned":
                faiss.cvar.distance_compute_blas_threshold = 20 if len(q) == 1 else 1
            return flat.search(q, k)

        return search
    if peer == "numpy":

        def search(q: np.ndarray, k: int):
            scores = q @ passages.T
            best = np.argpartition(scores, -k, axis=1)[:, -k:]
            found = np.take_along_axis(scores, best, axis=1)
            order = np.argsort(-found, axis=1)
            return np.take_along_axis(found, order, axis=1), np.take_along_axis(best, order, axis=1)

        return search
    import torch

    torch.set_num_threads(threads)
    stored = torch.from_numpy(passages)

    def search(q: np.ndarray, k: int):
        top = torch.topk(torch.from_numpy(q) @ stored.T, k)
        return top.values.numpy(), top.indices.numpy()

    return search


def worker(peer: str, kind: str, rows: int, dim: int, most: int, threads: int, pipe) -> None:
    """Answers ("run", queries, k) with (seconds, scores, indices) until told to stop."""
    passages, asked = make_data(kind, rows, dim, most)
    search = searcher(peer, passages, threads)
    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        queries, k = message
        start = time.perf_counter()
        scores, indices = search(asked[:queries], k)
        seconds = time.perf_counter() - start
        pipe.send((seconds, np.asarray(scores), np.asarray(indices)))


def environment(peer: str, threads: int) -> dict[str, str]:
    """Settings that BLAS and OpenMP read when they are loaded."""
    settings = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if peer == "faiss-tuned":
        settings["OPENBLAS_CORETYPE"] = "SkylakeX"
    return settings


def start_workers(peers, kind, rows, dim, most, threads):
    context = mp.get_context("spawn")
    workers = {}
    for peer in peers:
        here, there = context.Pipe()
        before = dict(os.environ)
        os.environ.update(environment(peer, threads))
        process = context.Process(target=worker, args=(peer, kind, rows, dim, most, threads, there), daemon=True)
        process.start()
        os.environ.clear()
        os.environ.update(before)
        assert here.recv() == "ready"
        workers[peer] = (process, here)
    return workers


def check(peer: str, reference, got) -> None:
    """Peers compute in float32, so two rows whose scores differ by less than its error may trade places."""
    scores, _ = reference
    if not np.allclose(scores, got[0], atol=2e-5):
        raise SystemExit(f"{peer}: scores differ from relkt's by {np.abs(scores - got[0]).max()}")
    same = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(reference[1], got[1], strict=True)])
    if same < 0.999:
        raise SystemExit(f"{peer}: only {same:.4f} of the rows found are relkt's")


def run(args: argparse.Namespace) -> dict:
    cells = []
    for kind in args.data:
        for dim in args.dims:
            for threads in args.threads:
                workers = start_workers(args.peers, kind, args.rows, dim, max(args.queries), threads)
                for queries in args.queries:
                    cells.append(measure(workers, kind, dim, threads, queries, args))
                    print(row(cells[-1], args.peers), flush=True)
                for process, pipe in workers.values():
                    pipe.send(None)
                    process.join()
    return {
        "rows": args.rows,
        "k": args.k,
        "repeats": args.repeats,
        "cells": cells,
        **machine("relkt", "numpy", "torch", "faiss-cpu"),
    }


def measure(workers, kind, dim, threads, queries, args) -> dict:
    def ask(peer):
        workers[peer][1].send((queries, args.k))
        return workers[peer][1].recv()

    reference = ask("relkt")[1:]
    for peer in workers:
        check(peer, reference, ask(peer)[1:])
    seconds = {peer: [] for peer in workers}
    repeats = args.repeats if queries > 16 else 3 * args.repeats
    for _ in range(repeats):
        for peer in workers:
            # OpenMP's threads spin for a while after their work is done, on the cores that the next peer wants.
            time.sleep(PAUSE)
            seconds[peer].append(ask(peer)[0])
    medians = {peer: statistics.median(times) for peer, times in seconds.items()}
    return {"data": kind, "rows": args.rows, "dim": dim, "threads": threads, "queries": queries, "seconds": medians}


def header(peers) -> str:
    names = "".join(f" {peer + '/relkt':>18}" for peer in peers if peer != "relkt")
    return f"{'data':>10} {'d':>4} {'threads':>7} {'queries':>7} {'relkt ms':>9} {'GFLOP/s':>8}{names}"


def row(cell: dict, peers) -> str:
    ours = cell["seconds"]["relkt"]
    ratios = "".join(f" {cell['seconds'][peer] / ours:>18.2f}" for peer in peers if peer != "relkt")
    flops = 2 * cell["queries"] * cell["rows"] * cell["dim"] / ours / 1e9
    start = f"{cell['data']:>10} {cell['dim']:>4} {cell['threads']:>7} {cell['queries']:>7}"
    return f"{start} {ours * 1e3:>9.2f} {flops:>8.0f}{ratios}"


def markdown(report: dict, peers) -> str:
    """Ratios as a Markdown table: a line for each width and thread count, a column for each number of queries."""
    queries = sorted({cell["queries"] for cell in report["cells"]})
    others = [peer for peer in peers if peer != "relkt"]
    lines = [
        f"| time of peer / time of relkt | {' | '.join(f'{q} queries' if q > 1 else '1 query' for q in queries)} |"
    ]
    lines.append("|---|" + "---|" * len(queries))
    keys = sorted({(cell["data"], cell["dim"], cell["threads"]) for cell in report["cells"]})
    for data, dim, threads in keys:
        cells = {
            c["queries"]: c["seconds"]
            for c in report["cells"]
            if (c["data"], c["dim"], c["threads"]) == (data, dim, threads)
        }
        ratios = [" / ".join(f"{cells[q][peer] / cells[q]['relkt']:.1f}" for peer in others) for q in queries]
        lines.append(f"| {data}, d {dim}, {threads} thread{'s' * (threads > 1)} | {' | '.join(ratios)} |")
    return "\n".join([f"Each cell: {' / '.join(others)}.", "", *lines]) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="compare.py search", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[384, 512, 768])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 256, 2048])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", nargs="+", choices=["random", "clustered"], default=["random"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="Write everything measured to this file.")
    parser.add_argument("--markdown", type=Path, help="Write the ratios to this file as a table.")
    args = parser.parse_args(argv)
    print(header(args.peers))
    report = run(args)
    print(f"{report['cpu']}, {report['cores']} cores, {report['versions']}; {args.rows} rows, k = {args.k}")
    if args.markdown:
        args.markdown.write_text(markdown(report, args.peers))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
