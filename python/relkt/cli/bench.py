"""``relkt bench``: its options and table; :mod:`relkt.speed` does the work."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from relkt.cli.console import err, one_line_errors, out, print_note
from relkt.cli.options import JsonOption, ThreadsOption
from relkt.cli.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from relkt.index import Index
    from relkt.speed import Timing


def bench(
    index: Annotated[
        Path | None, typer.Argument(help="An index file; some of its rows serve as queries. Default: random rows.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of random rows.")] = 100_000,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of the random rows.")] = 384,
    queries: Annotated[str, typer.Option(help="Comma-separated numbers of queries per call.")] = "1,16,256",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Results per query.")] = 10,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the speed of exact search on this machine with NumPy and, if installed, faiss.

    `--threads` does not affect NumPy, which uses the threads of its BLAS.

    Example: `relkt bench --rows 50000 --queries 1,256`
    """
    with one_line_errors():
        counts = _counts(queries)
        from relkt.machine import machine
        from relkt.speed import PEERS, time_search

        with err.status("preparing"):
            searched, asked = _rows(index, rows, dim, max(counts), threads)
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
        title = f"{len(searched):,} rows of {searched.dim}, k = {k}"
        out.print(_table(title, timings, counts))
        cpu = used["cpu"] or "unknown processor"
        print_note(f"{cpu}, {used['cores']} cores; median milliseconds per call", style="dim")


def _rows(
    path: Path | None, rows: int, dim: int, queries: int, threads: int | None
) -> tuple[Index, NDArray[np.float32]]:
    """The index to search, and the queries."""
    import numpy as np

    from relkt.index import Index
    from relkt.speed import random_rows

    if path is None:
        return Index(random_rows(rows, dim), threads=threads), random_rows(queries, dim, seed=1)
    index = Index.open(path)
    chosen = np.random.default_rng(0).choice(len(index), queries)
    return index, np.asarray(index.embeddings(chosen), dtype=np.float32)


def _table(title: str, timings: Sequence[Timing], counts: Sequence[int]) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column("queries per call", justify="right")
    for system in dict.fromkeys(timing.system for timing in timings):
        table.add_column(system, justify="right", style="cyan" if system == "relkt" else "")
    for count in counts:
        of_count = [timing for timing in timings if timing.queries == count]
        baseline = next(timing.seconds for timing in of_count if timing.system == "relkt")
        table.add_row(f"{count:,}", *(_cell(timing.seconds, baseline) for timing in of_count))
    return table


def _cell(seconds: float, baseline: float) -> str:
    ratio = "" if seconds == baseline else f" ({seconds / baseline:.1f}x)"
    return f"{1000 * seconds:.2f} ms{ratio}"


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--queries: expected comma-separated numbers, e.g. 1,16,256, got {text!r}") from None
    if any(count < 1 for count in counts) or len(set(counts)) < len(counts):
        raise ValueError(f"--queries: expected different numbers of at least 1, got {text!r}")
    return counts
