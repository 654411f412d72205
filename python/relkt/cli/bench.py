"""``relkt bench``: its options and table; :mod:`relkt.speed` does the work."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from relkt.cli.console import err, one_line_errors, out
from relkt.cli.progress import progress_bar


def bench(
    index: Annotated[
        Path | None, typer.Argument(help="An index file, whose own rows serve as queries. Default: random rows.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Random rows.")] = 100_000,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of random rows.")] = 384,
    queries: Annotated[str, typer.Option(help="How many queries at once, with commas.")] = "1,16,256",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Results for each query.")] = 10,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of relkt and faiss. Default: all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Write a JSON object to standard output.")] = False,
) -> None:
    """Time exact search on this machine, beside NumPy and, if it is installed, faiss.

    Example: `relkt bench --rows 50000 --queries 1,256`
    """
    with one_line_errors():
        counts = _counts(queries)
        import numpy as np

        from relkt.index import Index
        from relkt.machine import machine
        from relkt.speed import PEERS, random_rows, time_search

        with err.status("preparing"):
            if index is None:
                searched = Index(random_rows(rows, dim), threads=threads)
                asked = random_rows(max(counts), dim, seed=1)
            else:
                searched = Index.open(index)
                chosen = np.random.default_rng(0).choice(len(searched), max(counts))
                asked = np.asarray(searched.embeddings(chosen), dtype=np.float32)
        timings = []
        with progress_bar("searching", len(counts) * len(PEERS)) as bar:
            for timing in time_search(searched, asked, counts=counts, k=k, threads=threads):
                timings.append(timing)
                bar(1)
        used = machine("relkt", "numpy", "faiss-cpu")
        if json:
            report = {"machine": used, "rows": len(searched), "dim": searched.dim, "k": k, "threads": threads}
            report["timings"] = [asdict(timing) for timing in timings]
            out.file.write(json_format.dumps(report) + "\n")
            return
        table = Table(title=f"{len(searched):,} rows of {searched.dim}, k = {k}", title_justify="left", show_edge=False)
        table.add_column("queries at once", justify="right")
        systems = list(dict.fromkeys(timing.system for timing in timings))
        for system in systems:
            table.add_column(system, justify="right", style="cyan" if system == "relkt" else "")
        for count in counts:
            ours = next(timing.seconds for timing in timings if (timing.queries, timing.system) == (count, "relkt"))
            cells = [_cell(timing.seconds, ours) for timing in timings if timing.queries == count]
            table.add_row(f"{count:,}", *cells)
        out.print(table)
        note = f"{used['cpu'] or 'unknown processor'}, {used['cores']} cores; milliseconds a call, median"
        err.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


def _cell(seconds: float, ours: float) -> str:
    times = "" if seconds == ours else f" ({seconds / ours:.1f}x)"
    return f"{1000 * seconds:.2f} ms{times}"


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--queries: expected numbers with commas, e.g. 1,16,256, got {text!r}") from None
    if any(count < 1 for count in counts) or len(set(counts)) < len(counts):
        raise ValueError(f"--queries: expected different numbers of at least 1, got {text!r}")
    return counts
