"""Tables of the measurements of compare_mine.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from search_report import rows_of

MB = 10**6
NAMES = {
    "relkt": "relkt.mine",
    "relkt-dataset": "relkt.mine_hard_negatives",
    "st-faiss-tuned": "sentence-transformers, tuned faiss",
    "st-faiss": "sentence-transformers, faiss",
    "st-torch": "sentence-transformers, torch",
    "flag-faiss-tuned": "FlagEmbedding's, tuned faiss",
    "flag-faiss": "FlagEmbedding's, faiss",
}
Cells = dict[tuple[int, str, str], dict[str, Any]]


def keyed(cells: list[dict[str, Any]]) -> Cells:
    """By threads, case and peer."""
    return {(cell["threads"], cell["case"], cell["peer"]): cell for cell in cells}


def others(cells: list[dict[str, Any]]) -> list[str]:
    """The peers that are not relkt, in their order."""
    measured = {cell["peer"] for cell in cells}
    return [peer for peer in NAMES if peer in measured and not peer.startswith("relkt")]


def selecting_ratio(by: Cells, threads: int, case: str, peer: str) -> float | None:
    """Time of a peer's selecting / time of relkt.mine."""
    theirs, ours = by.get((threads, case, peer)), by[threads, case, "relkt"]
    return theirs["selecting"] / ours["selecting"] if theirs else None


def whole_ratio(by: Cells, threads: int, case: str, peer: str) -> float | None:
    """Time of a peer's whole call / time of relkt.mine_hard_negatives."""
    theirs, ours = by.get((threads, case, peer)), by.get((threads, case, "relkt-dataset"))
    return theirs["whole"] / ours["whole"] if theirs and ours and peer.startswith("st-") else None


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary: the lowest ratio to each peer, the peak memory, and the most expensive window."""
    by = keyed(cells)

    def least(ratio: Callable[[Cells, int, str, str], float | None], peer: str) -> float | None:
        found = [ratio(by, threads, case, peer) for threads, case, of in by if of == peer]
        return min((value for value in found if value is not None), default=None)

    memory = {
        peer: [cell["memory"] for cell in cells if cell["peer"] == peer and cell["memory"] is not None]
        for peer in NAMES
    }
    return {
        "selecting_at_least": {peer: least(selecting_ratio, peer) for peer in others(cells)},
        "whole_at_least": {peer: least(whole_ratio, peer) for peer in others(cells)},
        "memory_at_most": {peer: max(known) for peer, known in memory.items() if known},
        "window_at_most": max(cell["window"] for cell in cells if cell["peer"] == "relkt"),
    }


def header() -> str:
    return f"{'peer':>17} {'case':>11} {'threads':>7} {'selecting s':>11} {'whole s':>8} {'MB beyond':>9} {'served':>7}"


def line(peer: str, case: str, threads: int, run: dict[str, Any]) -> str:
    return (
        f"{peer:>17} {case:>11} {threads:>7} {run['selecting']:>11.2f} {run['whole']:>8.2f} "
        f"{megabytes(run['memory']):>9} {run['served']:>7.1%}"
    )


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / MB:,.0f}"


# Long: one Markdown report, section by section.
def markdown(report: dict[str, Any]) -> str:
    """Times and ratios, memory, shares of queries served, and relkt's cost of each condition."""
    cells, by = report["cells"], keyed(report["cells"])
    names = others(cells)
    settings = list(dict.fromkeys((cell["threads"], cell["case"]) for cell in cells))
    peers = [peer for peer in NAMES if any(cell["peer"] == peer for cell in cells)]

    def table(heads: list[str], show: Callable[[int, str], list[str]]) -> str:
        return rows_of(["", *heads], [[label(*setting), *show(*setting)] for setting in settings])

    def of_peers(show: Callable[[dict[str, Any]], str]) -> Callable[[int, str], list[str]]:
        return lambda threads, case: [
            show(by[threads, case, peer]) if (threads, case, peer) in by else "-" for peer in peers
        ]

    conditions = [
        f"- {name}: {', '.join(f'{key}={value}' for key, value in given.items()) or 'no conditions'}"
        for name, given in report["cases"].items()
    ]
    ranks = report["positive_ranks"]
    shares = ", ".join(f"{sum(rank <= k for rank in ranks) / len(ranks):.0%} in the top {k}" for k in (1, 10, 100))
    parts = [
        f"{report['queries']:,} queries, {report['rows']:,} passages, d {report['dim']}, one positive each; of the "
        f"positives, {shares} (of a sample). 5 negatives each:",
        "\n".join(conditions),
        in_short(report["summary"]),
        "Selecting: seconds of relkt.mine, and time of each of the others / time of relkt.mine:",
        table(
            [NAMES[peer] for peer in peers],
            lambda threads, case: [
                seconds(by[threads, case, "relkt"]["selecting"]),
                *(ratio(selecting_ratio(by, threads, case, peer)) for peer in peers if peer != "relkt"),
            ],
        ),
    ]
    if "relkt-dataset" in peers:
        compatible = [peer for peer in names if peer.startswith("st-")]
        parts += [
            "The whole call, from texts to a data set: seconds of relkt.mine_hard_negatives, and time of each of the "
            "others / its time:",
            table(
                [NAMES["relkt-dataset"], *(NAMES[peer] for peer in compatible)],
                lambda threads, case: [
                    seconds(by[threads, case, "relkt-dataset"]["whole"]),
                    *(ratio(whole_ratio(by, threads, case, peer)) for peer in compatible),
                ],
            ),
        ]
    parts += [
        "Queries that got all their negatives:",
        table([NAMES[peer] for peer in peers], of_peers(lambda cell: f"{cell['served']:.1%}")),
        "Peak memory beyond the embeddings, the texts and the output, MB:",
        table([NAMES[peer] for peer in peers], of_peers(lambda cell: megabytes(cell["memory"]))),
        "Time of relkt.mine / time of a plain search, both on a prepared index, median of pairs; the search's k is the "
        "number of negatives, or the end of the range:",
        rows_of(
            ["", "relkt.mine / relkt.search"],
            [[label(*setting), f"{by[(*setting, 'relkt')]['window']:.2f}"] for setting in settings],
        ),
    ]
    parts += [
        f"{NAMES[killed['peer']]}, {threads_of(killed['threads'])}: its process was killed, perhaps by lack of memory."
        for killed in report["killed"]
    ]
    parts += [
        f"{NAMES[peer]}: measured with the first {count:,} queries; its time is multiplied accordingly."
        for peer, count in {cell["peer"]: cell["queries"] for cell in cells}.items()
        if count < report["queries"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return "\n\n".join([*parts, f"{report['cpu']}, {report['cores']} cores; {versions}."]) + "\n"


def in_short(least: dict[str, Any]) -> str:
    """The summary in words."""

    def ratios(of: dict[str, float | None]) -> str:
        return ", ".join(f"{ratio(value)} ({NAMES[peer]})" for peer, value in of.items() if value is not None)

    lines = []
    for what, key in (("relkt.mine", "selecting_at_least"), ("relkt.mine_hard_negatives", "whole_at_least")):
        if of := ratios(least[key]):
            lines.append(f"- {what} compared with the others, time of each / its time, the least of all cases: {of}.")
    if memory := least["memory_at_most"]:
        used = ", ".join(f"{NAMES[peer]} {megabytes(most)}" for peer, most in memory.items())
        lines.append(f"- Peak memory beyond the embeddings, the texts and the output, in MB, at most: {used}.")
    lines.append(f"- Conditions make relkt.mine take at most {least['window_at_most']:.2f} times a plain relkt.search.")
    return "\n".join(lines)


def label(threads: int, case: str) -> str:
    return f"{case}, {threads_of(threads)}"


def threads_of(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def seconds(count: float) -> str:
    return f"{count:.2f}"


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
