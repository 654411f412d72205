"""Hard-negative mining: relkt against sentence-transformers' mine_hard_negatives (torch, and faiss tuned and as
installed) and FlagEmbedding's procedure (faiss, then filter).

    python benches/compare.py mine --preset readme --markdown table.md --json all.json
    python benches/compare.py mine --queries 2000 --rows 50000 --threads 1 --cases margin --peers relkt st-faiss

Nothing is encoded: all peers use the same prepared unit-norm rows; a stand-in for a model returns them to
sentence-transformers. Each peer runs in its own process, limited to one core per thread. Peers run one at a time, and
relkt runs again before every run of a peer, so that noise of the machine affects both; medians are compared. Before
timing, relkt's results are checked against a computation in float64 for a sample of queries. The results of the peers
are checked against relkt's for all queries: a peer's negatives must be the first of relkt's negatives.

Times: "selecting" is the choice of negatives, from embeddings in memory to rows and scores. For sentence-transformers
it ends with the line "Negative candidates mined, preparing dataset..."; for relkt it is the whole call of relkt.mine.
"whole" is the whole call, from texts to a data set; for relkt, relkt.mine_hard_negatives (the peer relkt-dataset).
"window" is the time of relkt.mine / the time of a plain search right after it, both on a prepared index. The search
returns as many passages as mining does, or all up to the end of the range. Memory: the peak resident memory of a
process during the call, minus its output and its memory just before the call (with embeddings, texts and modules
loaded, after a small run).

Cases: the 5 best negatives without a condition ("top"), with a relative margin of 5% ("margin"), with an absolute
margin of 0.2 ("wide margin"), with a maximum score of 0.5 ("ceiling") or 0.1 ("low ceiling": in the bulk of the
scores), and 5 drawn from ranks 10 to 100 ("range"). A query is served if it gets all 5. FlagEmbedding's procedure
supports only ranges. If it is timed with the first queries only (--few), its time is extrapolated to all queries,
because it searches 64 queries at a time.

Tuned faiss: as in compare_search.py.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import machine, write_report
from mine_check import Found, Judge, served
from mine_data import CASES, MiningData, prepare
from mine_peers import MODULES, PEERS, work
from mine_report import header, line, markdown, summary
from peers import drop_missing
from search_peers import Ended, Worker

PRESETS: dict[str, dict[str, Any]] = {
    "readme": {
        "queries": 20_000,
        "rows": 200_000,
        "dim": 384,
        "slow_cases": ["margin", "range"],
        "few": 2000,
        "repeats": 2,
        "patience": 8.0,
    },
    "smoke": {"queries": 500, "rows": 5000, "dim": 64, "threads": [1], "cases": ["margin", "range"], "repeats": 1},
}
# Peers that run only the --slow-cases, and peers that get only the first --few queries.
SLOW, FEW = ("st-faiss", "st-torch"), ("flag-faiss",)


@dataclass
class Group:
    """All peers with one number of threads."""

    data: MiningData
    judge: Judge
    threads: int
    args: argparse.Namespace
    found: dict[str, Found] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    windows: dict[str, list[float]] = field(default_factory=dict)
    same: dict[tuple[str, str], float] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)

    def measure(self) -> list[dict[str, Any]]:
        relkt = self.start("relkt")
        for name in self.args.cases:
            self.check_relkt(relkt, name)
        for name in self.args.cases:
            for _ in range(self.args.repeats):
                self.run(relkt, name)
            print(line("relkt", name, self.threads, self.cell("relkt", name)), flush=True)
        for peer in self.args.peers:
            if peer != "relkt":
                self.measure_peer(relkt, peer)
        # Measured last, because the index stays in memory.
        for name in self.args.cases:
            self.windows[name] = [relkt.ask("window", CASES[name]) for _ in range(self.args.repeats)]
        relkt.stop()
        return [self.cell(peer, name) for name in self.args.cases for peer in PEERS if (peer, name) in self.runs]

    def queries(self, peer: str) -> int:
        return min(self.args.few or self.data.queries, self.data.queries) if peer in FEW else self.data.queries

    def start(self, peer: str) -> Worker:
        worker = Worker(peer, replace(self.data, queries=self.queries(peer)), self.threads, work)
        worker.answer()
        return worker

    def check_relkt(self, relkt: Worker, name: str) -> None:
        case = CASES[name]
        ranked = relkt.ask("ranked", case) if case.sampling_strategy == "random" else None
        first = relkt.ask("mine", case, True)
        self.found[name] = Found(first["rows"], first["scores"], ranked)
        self.judge.exact(case, self.found[name])
        self.same["relkt", name] = 1.0

    def measure_peer(self, relkt: Worker, peer: str) -> None:
        worker = self.start(peer)
        try:
            for name in self.args.cases:
                if self.measures(peer, name):
                    self.run(relkt, name)
                    first = self.run(worker, name, wanted=True)
                    for _ in range(min(self.args.repeats, int(self.args.patience / first["whole"])) - 1):
                        self.run(relkt, name)
                        self.run(worker, name)
            worker.stop()
        except Ended:
            worker.process.join()
            # A system that runs out of memory kills the process.
            if worker.process.exitcode != -signal.SIGKILL or peer.startswith("relkt"):
                raise
            print(f"{peer}: killed, perhaps by lack of memory")
            self.killed.append(peer)

    def measures(self, peer: str, name: str) -> bool:
        if peer.startswith("flag"):
            return CASES[name].sampling_strategy == "random"
        return peer not in SLOW or name in (self.args.slow_cases or self.args.cases)

    def run(self, worker: Worker, name: str, *, wanted: bool = False) -> dict[str, Any]:
        # Threads of OpenMP and OpenBLAS spin for a while after their work, on cores that the next peer wants.
        time.sleep(self.args.pause if self.threads > 1 else 0)
        run = worker.ask("mine", CASES[name], wanted)
        if (share := self.queries(worker.peer) / self.data.queries) < 1:
            scaled = {key: run[key] / share for key in ("selecting", "whole")}
            run = {**run, **scaled, "memory": None}
        if wanted:
            self.same[worker.peer, name] = self.judge.same(worker.peer, CASES[name], self.found[name], run["rows"])
            run["served"] = served(run["rows"])
            print(line(worker.peer, name, self.threads, run), flush=True)
        self.runs.setdefault((worker.peer, name), []).append({**run, "rows": None})
        return run

    def cell(self, peer: str, name: str) -> dict[str, Any]:
        runs = self.runs[peer, name]
        known = [run["memory"] for run in runs if run["memory"] is not None]
        return {
            "peer": peer,
            "case": name,
            "threads": self.threads,
            "queries": self.queries(peer),
            "selecting": statistics.median(run["selecting"] for run in runs),
            "whole": statistics.median(run["whole"] for run in runs),
            "samples": [[run["selecting"], run["whole"]] for run in runs],
            "memory": max(known, default=None),
            "output": runs[0]["output"],
            "served": served(self.found[name].rows) if peer == "relkt" else runs[0]["served"],
            "same": self.same[peer, name],
            "window": statistics.median(self.windows[name]) if peer == "relkt" and name in self.windows else None,
        }


def run(args: argparse.Namespace) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    killed: list[dict[str, Any]] = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relkt-mine-")))
        data = prepare(args.queries, args.rows, args.dim, scratch)
        judge = Judge(data)
        for threads in args.threads:
            group = Group(data, judge, threads, args)
            cells += group.measure()
            killed += [{"peer": peer, "threads": threads} for peer in group.killed]
    return {
        "queries": data.queries,
        "rows": data.rows,
        "dim": data.dim,
        "positive_ranks": judge.ranks(),
        "cases": {name: CASES[name].conditions() for name in args.cases},
        "peers": args.peers,
        "cells": cells,
        "killed": killed,
        "summary": summary(cells),
        **machine("relkt", "numpy", "torch", "faiss-cpu", "sentence-transformers", "datasets"),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare.py mine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), help="Other defaults: the README's, or a few seconds.")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200_000, help="Passages.")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--slow-cases", nargs="+", choices=CASES, help=f"Cases of {', '.join(SLOW)}; default: all.")
    parser.add_argument(
        "--few", type=int, help=f"Queries for {', '.join(FEW)}, whose times are then scaled; default: all."
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patience", type=float, default=20.0, help="Seconds for a peer's repeats of one case.")
    parser.add_argument("--pause", type=float, default=0.2, help="Seconds before each run with several threads.")
    parser.add_argument("--json", type=Path, help="Write everything measured to this file.")
    parser.add_argument("--markdown", type=Path, help="Write tables to this file.")
    if preset := parser.parse_known_args(argv)[0].preset:
        parser.set_defaults(**PRESETS[preset])
    args = parser.parse_args(argv)
    drop_missing(args, MODULES)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    print(header())
    report = run(args)
    write_report(report, markdown(report), args)


if __name__ == "__main__":
    main()
