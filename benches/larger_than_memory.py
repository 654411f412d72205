"""Exact search in an index that is several times larger than the memory limit.

    python benches/larger_than_memory.py                                # 4 GB of rows, 1 GB of memory
    python benches/larger_than_memory.py --rows-gb 20 --limit-gb 5      # five times as large

Two processes run under the limit: one builds the index file from generated batches; the other opens it and searches it
cold and then warm. A third process without the limit compares the hits with a brute force in double precision over the
same batches. As root, the limit is memory.max of a control group (version 2), which includes cached pages of the file.
Otherwise it is RLIMIT_DATA, which limits the allocations of the process but not the system's cache of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

GB = 10**9
SEED = 11
BATCH_BYTES = 16 << 20
CGROUPS = Path("/sys/fs/cgroup")
WARM = 3
# A unit in the last place of a float32 below 1.
ULP = 2.0**-24
# Number of extra reference rows after the top k, for equal scores.
SPARE = 8
# Fields of a child's report, in order.
USED = ("peak_rss", "anonymous", "of_files", "major_faults", "read")


def batches(rows: int, dim: int) -> Iterator[np.ndarray]:
    """Yields the rows in batches (m, d); the same in every call."""
    step = max(BATCH_BYTES // (4 * dim), 1)
    for number, start in enumerate(range(0, rows, step)):
        rng = np.random.default_rng([SEED, number])
        yield rng.standard_normal((min(step, rows - start), dim), dtype=np.float32)


def queries(count: int, dim: int) -> np.ndarray:
    return np.random.default_rng(SEED).standard_normal((count, dim), dtype=np.float32)


def build(plan: dict[str, Any]) -> dict[str, Any]:
    """Writes the file (runs under the limit)."""
    import relkt

    making = 0.0

    def made() -> Iterator[np.ndarray]:
        nonlocal making
        source = batches(plan["rows"], plan["dim"])
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            making += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    start = time.perf_counter()
    relkt.Index.build(plan["file"], made(), rows=plan["rows"], threads=plan["threads"])
    return {"seconds": time.perf_counter() - start - making, "making_rows": making, **used()}


def search(plan: dict[str, Any]) -> dict[str, Any]:
    """Opens the file, searches it cold and warm, and reports the hits (runs under the limit)."""
    import relkt

    with open(plan["file"], "rb") as file:  # noqa: PTH123 - only for its descriptor
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    index = relkt.Index.open(plan["file"])
    report: dict[str, Any] = {"opening": time.perf_counter() - start, "index_bytes": index.nbytes}
    asked = queries(plan["queries"], plan["dim"])

    def timed() -> tuple[float, Any]:
        start = time.perf_counter()
        hits = index.search(asked, plan["k"], threads=plan["threads"])
        return time.perf_counter() - start, hits

    report["first"], hits = timed()
    report["after_first"] = used()
    runs = [timed() for _ in range(WARM)]
    report["warm"] = statistics.median(seconds for seconds, _ in runs)
    for _, again in runs:
        assert np.array_equal(hits.scores, again.scores)
        assert np.array_equal(hits.indices, again.indices)
    return {**report, "scores": hits.scores.tolist(), "rows": hits.indices.tolist(), **used()}


STAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"build": build, "search": search}


def used() -> dict[str, int]:
    """Resources of this process: peak memory, current anonymous and file memory, major page faults, and bytes read from
    the disk."""
    status = Path("/proc/self/status").read_text().splitlines()
    fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (s.partition(":") for s in status) if "kB" in rest}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values = (fields["VmHWM"], fields["RssAnon"], fields["RssFile"], usage.ru_majflt, usage.ru_inblock * 512)
    return dict(zip(USED, values, strict=True))


class Limit:
    """Runs child processes under a memory limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.group: Path | None = None

    @property
    def name(self) -> str:
        return "RLIMIT_DATA" if self.group is None else "a control group's memory.max"

    def _make_group(self) -> Path | None:
        """Creates a control group in the nearest possible place, or returns None."""
        own = Path("/proc/self/cgroup")
        if not (CGROUPS / "cgroup.controllers").exists() or not own.exists():
            return None
        path = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), "/")
        here = CGROUPS / path.strip("/")
        for parent in [here, *here.parents]:
            if not parent.is_relative_to(CGROUPS):
                break
            group = parent / f"relkt-{os.getpid()}"
            try:
                # The nearest parent that enables the memory controller for its children.
                if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                    continue
                group.mkdir()
                (group / "memory.max").write_text(str(self.limit))
                swap = group / "memory.swap.max"
                if swap.exists():
                    swap.write_text("0")
                return group
            except OSError:
                if group.exists():
                    group.rmdir()
        return None

    def enter(self) -> None:
        """Applies the limit; called in the child before it starts."""
        if self.group is not None:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def run(self, stage: str, plan: dict[str, Any]) -> dict[str, Any]:
        self.group = self._make_group()
        try:
            command = [sys.executable, __file__, "--stage", stage, "--plan", json.dumps(plan)]
            done = subprocess.run(command, preexec_fn=self.enter, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{stage}: the process under the limit ended with {done.returncode}")
            report = json.loads(done.stdout)
            peak = None if self.group is None else self.group / "memory.peak"
            if peak is not None and peak.exists():
                report["group_peak"] = int(peak.read_text())
            return report
        finally:
            if self.group is not None:
                self.group.rmdir()


def reference(rows: int, dim: int, asked: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Top-k cosines in double precision by brute force, and their rows."""
    unit = asked.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    best = np.full((len(asked), k), -np.inf)
    found = np.zeros((len(asked), k), dtype=np.int64)
    first = 0
    for batch in batches(rows, dim):
        wide = batch.astype(np.float64)
        scores = np.concatenate([best, unit @ wide.T / np.linalg.norm(wide, axis=1)], axis=1)
        numbers = np.broadcast_to(np.arange(first, first + len(batch)), (len(asked), len(batch)))
        numbers = np.concatenate([found, numbers], axis=1)
        # A stable sort ranks equal scores by row.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(numbers, order, axis=1)
        first += len(batch)
    return best, found


def verify(plan: dict[str, Any], searched: dict[str, Any]) -> int:
    """Counts the hits whose row differs from the reference; raises SystemExit unless their scores are equal."""
    k = plan["k"]
    best, found = reference(plan["rows"], plan["dim"], queries(plan["queries"], plan["dim"]), k + SPARE)
    scores, rows = np.array(searched["scores"], dtype=np.float64), np.array(searched["rows"])
    # Rounding to float32 changes a score by at most half a unit; the order of double-precision sums by far less.
    if (np.abs(scores - best[:, :k]) > ULP).any():
        raise SystemExit(f"scores differ from the reference by {np.abs(scores - best[:, :k]).max()}")
    differ = np.argwhere(rows != found[:, :k])
    for query, place in differ:
        known = dict(zip(found[query].tolist(), best[query].tolist(), strict=True))
        row = int(rows[query, place])
        if abs(known.get(row, -np.inf) - scores[query, place]) > ULP or (rows[query] == row).sum() > 1:
            raise SystemExit(f"query {query}: expected row {found[query, place]} at rank {place}, got {row}")
    return len(differ)


def describe(report: dict[str, Any]) -> str:
    plan, built, searched = report["plan"], report["built"], report["searched"]
    asked = f"{plan['queries']} queries, k = {plan['k']}"
    size = plan["rows"] * plan["dim"] * 4

    def gb(count: int) -> str:
        return f"{count / GB:.2f} GB"

    def memory(stage: dict[str, Any]) -> str:
        group = f"whole group {gb(stage['group_peak'])}, " if "group_peak" in stage else ""
        own = f"at the end {gb(stage['anonymous'])} anonymous and {gb(stage['of_files'])} of files"
        return f"at most {gb(stage['peak_rss'])} resident, {group}{own}"

    def disk(stage: dict[str, Any]) -> str:
        return f"{gb(stage['read'])} read from the disk, {stage['major_faults']:,} major page faults"

    hits = plan["queries"] * plan["k"]
    same = f"{hits - report['differ']} of {hits} rows and all scores equal a brute force in double precision"
    facts = {
        "rows": f"{plan['rows']:,} of {plan['dim']} float32, {gb(size)}; with codes {gb(searched['index_bytes'])}",
        "limit": f"{gb(report['limit'])} by {report['limited_by']}: rows are {size / report['limit']:.1f} times that",
        "building": f"{built['seconds']:.1f} s, and {built['making_rows']:.1f} s to make the rows",
        "": memory(built),
        "opening": f"{searched['opening'] * 1e3:.1f} ms",
        "first": f"{searched['first']:.2f} s for {asked}; {disk(searched['after_first'])}",
        "warm": f"{searched['warm']:.2f} s, the median of {WARM}; in all {disk(searched)}",
        " ": memory(searched),
        "hits": same + (f"; {report['differ']} have equal scores" if report["differ"] else ""),
        "machine": f"{report['cpu']}, {report['cores']} cores, {report['versions']}",
    }
    return "\n".join(f"{name:<9} {fact}" for name, fact in facts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-gb", type=float, default=4.0, help="Size of the float32 rows; the file is 5/4 of it.")
    parser.add_argument("--limit-gb", type=float, default=1.0, help="Memory limit; at least 0.25.")
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, help="Default: all.")
    parser.add_argument(
        "--folder", type=Path, help="Folder of the file, on a disk. Default: the folder of temporary files."
    )
    parser.add_argument("--json", type=Path, help="File for all measurements.")
    parser.add_argument("--stage", choices=sorted(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(STAGES[args.stage](args.plan)))
        return
    rows = int(args.rows_gb * GB) // (4 * args.dim)
    if args.rows_gb <= args.limit_gb:
        raise SystemExit(f"--rows-gb: expected more than the limit of {args.limit_gb}, got {args.rows_gb}")
    limit = Limit(int(args.limit_gb * GB))
    with tempfile.TemporaryDirectory(prefix="relkt-larger-", dir=args.folder) as folder:
        free = shutil.disk_usage(folder).free
        if free < 1.3 * args.rows_gb * GB:
            raise SystemExit(f"{folder}: expected {1.3 * args.rows_gb:.1f} GB of free space, got {free / GB:.1f}")
        names = ("rows", "dim", "queries", "k", "threads", "file")
        values = (rows, args.dim, args.queries, args.k, args.threads, str(Path(folder) / "large.relkt"))
        plan = dict(zip(names, values, strict=True))
        report: dict[str, Any] = {"plan": plan, "limit": limit.limit}
        report["built"] = limit.run("build", plan)
        report["searched"] = limit.run("search", plan)
        report["limited_by"] = limit.name
    report["differ"] = verify(plan, report["searched"])
    report |= machine("relkt", "numpy")
    print(describe(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
