"""Tables of the measurements of compare_search.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

# The headline ratio is to the fastest of these.
RIVALS = ("faiss-tuned", "numpy", "torch")
# The codes of a row are padded to a multiple of 8 columns; its scale and error take 8 more bytes.
COLUMNS, OVERHEAD = 8, 8


def versus_fastest(seconds: dict[str, float]) -> float | None:
    """Time of the fastest rival / time of relkt."""
    times = [seconds[peer] for peer in RIVALS if peer in seconds]
    return min(times) / seconds["relkt"] if times else None


def ratio_to(peer: str, seconds: dict[str, float], digits: int) -> str:
    """Time of a peer / time of relkt, or "-" if it was not measured."""
    return f"{seconds[peer] / seconds['relkt']:.{digits}f}" if peer in seconds else "-"


def fastest(seconds: dict[str, float]) -> str:
    ratio = versus_fastest(seconds)
    return "-" if ratio is None else f"{ratio:.1f}"


def every(peers: list[str], seconds: dict[str, float]) -> str:
    return " / ".join(ratio_to(peer, seconds, 1) for peer in peers)


def rates(group: dict[str, Any], cell: dict[str, Any]) -> dict[str, float]:
    """Read bandwidth and throughput of relkt (in 10^9 per second, and as shares of the machine's peaks), with each code
    counted once; and the share of rows that are scored exactly."""
    rows, dim, seconds = group["rows"], group["dim"], cell["seconds"]["relkt"]
    read = rows * (-(-dim // COLUMNS) * COLUMNS + OVERHEAD) / seconds / 1e9
    operations = 2 * cell["queries"] * rows * dim / seconds / 1e9
    return {
        "read": read,
        "read_share": read / group["limits"]["read_gb_per_s"],
        "operations": operations,
        "operations_share": operations / group["limits"]["int8_gop_per_s"],
        "scored_share": cell["scored"] / rows,
    }


def others(peers: list[str]) -> list[str]:
    return [peer for peer in peers if peer != "relkt"]


def header(peers: list[str]) -> str:
    start = f"{'data':>16} {'rows':>7} {'d':>4} {'threads':>7} {'k':>4} {'queries':>7} {'relkt ms':>9}"
    machine = f"{'GB/s, of read':>13} {'GOP/s, of int8':>14} {'rescored':>9}"
    return " ".join([start, machine, f"{'fastest/relkt':>13}", *(f"{peer:>{width(peer)}}" for peer in others(peers))])


def width(peer: str) -> int:
    return max(len(peer), 7)


def line(group: dict[str, Any], cell: dict[str, Any], peers: list[str]) -> str:
    seconds, rate = cell["seconds"], rates(group, cell)
    start = (
        f"{group['data']:>16} {group['rows']:>7} {group['dim']:>4} {group['threads']:>7} {cell['k']:>4} "
        f"{cell['queries']:>7} {seconds['relkt'] * 1e3:>9.2f}"
    )
    read = f"{rate['read']:.1f} {rate['read_share']:.0%}"
    operations = f"{rate['operations']:.0f} {rate['operations_share']:.0%}"
    ratio = versus_fastest(seconds)
    ratios = (f"{ratio_to(peer, seconds, 2):>{width(peer)}}" for peer in others(peers))
    machine = f"{read:>13} {operations:>14} {rate['scored_share']:>9.4%}"
    return " ".join([start, machine, f"{'-' if ratio is None else f'{ratio:.2f}':>13}", *ratios])


def describe(group: dict[str, Any]) -> str:
    """Formats the lines below the cells of a group."""
    limits, building = group["limits"], group["building"]
    ratio = building / group["building_search"]
    opened = ", ".join(f"{file / memory:.2f} at {q}" for q, (memory, file) in group["opened"].items())
    return (
        f"{'':>16} machine: {limits['read_gb_per_s']:.1f} GB/s read, {limits['int8_gop_per_s']:.0f} GOP/s of int8\n"
        f"{'':>16} index built in {building * 1e3:.0f} ms, {ratio:.2f} times a search of {group['building_queries']} "
        f"queries; time of an opened file, warm / in memory, by queries: {opened}"
    )


def markdown(report: dict[str, Any]) -> str:
    """Formats, for each k, the ratios to the fastest rival and to every peer, and then relkt's use of the machine."""
    groups, names = report["groups"], others(report["peers"])
    parts = []
    for k in sorted({cell["k"] for group in groups for cell in group["cells"]}):
        measured = {peer for group in groups for cell in group["cells"] if cell["k"] == k for peer in cell["seconds"]}
        shown = [peer for peer in names if peer in measured]
        rivals = ", ".join(peer for peer in RIVALS if peer in shown)
        parts += [f"Time of the fastest of {rivals} / time of relkt, k = {k}:", table(groups, k, fastest)]
        parts += [
            f"Time of {' / '.join(shown)}, each / time of relkt, k = {k}:",
            table(groups, k, partial(every, shown)),
        ]
    parts += ["relkt and the machine:", use_of_machine(groups)]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return "\n\n".join([*parts, f"{report['cpu']}, {report['cores']} cores; {versions}."]) + "\n"


def label(group: dict[str, Any]) -> str:
    threads = group["threads"]
    return f"{group['data']}, {group['rows']:,} rows, d {group['dim']}, {threads} thread{'s' * (threads > 1)}"


def rows_of(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def table(groups: list[dict[str, Any]], k: int, show: Callable[[dict[str, float]], str]) -> str:
    queries = sorted({cell["queries"] for group in groups for cell in group["cells"]})
    rows = []
    for group in groups:
        cells = {cell["queries"]: cell["seconds"] for cell in group["cells"] if cell["k"] == k}
        if cells:
            rows.append([label(group), *(show(cells[q]) if q in cells else "-" for q in queries)])
    return rows_of(["", *(f"{q} quer{'y' if q == 1 else 'ies'}" for q in queries)], rows)


def use_of_machine(groups: list[dict[str, Any]]) -> str:
    heads = ["", "k", "GB/s at queries", "GOP/s at queries", "rescored"]
    heads += ["building / searching", "opened / in memory"]
    rows = []
    for group in groups:
        opened = ", ".join(f"{file / memory:.2f} at {q}" for q, (memory, file) in group["opened"].items())
        built = f"{group['building'] / group['building_search']:.2f} ({group['building_queries']} queries)"
        for k in sorted({cell["k"] for cell in group["cells"]}):
            cells = [cell for cell in group["cells"] if cell["k"] == k]
            few, many = (pick(cells, key=lambda cell: cell["queries"]) for pick in (min, max))
            first, last = rates(group, few), rates(group, many)
            rows.append(
                [
                    label(group),
                    str(k),
                    f"{first['read']:.1f} ({first['read_share']:.0%}) at {few['queries']}",
                    f"{last['operations']:.0f} ({last['operations_share']:.0%}) at {many['queries']}",
                    f"{last['scored_share']:.4%}",
                    built,
                    opened,
                ]
            )
            built = opened = ""
    return rows_of(heads, rows)
