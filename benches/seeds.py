"""Mean and spread of the test results of several runs that differ in their seed.

    for seed in 1 2 3; do
      relkt train --data xquad --path DIR --preset paper-xquad --seed $seed --output runs/seed-$seed
    done
    python benches/seeds.py runs/seed-*

Prints Markdown: P@1 and MRR@10 averaged over the languages trained, the others without English, and of English, at each
level, before and after each stage; then P@1 per language at the level that was trained, or that is asked for. Values
are the mean over the runs, ± their standard deviation (n - 1).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from relkt.data import Level
from relkt.evaluation import Average, Report
from relkt.report import RESULT_NAMES
from relkt.training import TrainConfig

Results = dict[str, dict[str, Report]]


def read(run: Path) -> Results:
    """Stage -> level -> report."""
    content = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {
        stage: {level: Report.from_dict(report) for level, report in levels.items()}
        for stage, levels in content.items()
    }


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, in points of three decimals."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def averages(runs: list[Results], metric: str) -> str:
    levels = list(runs[0]["before"])
    first = runs[0]["before"][levels[0]]
    trained = first.languages_of(Average.TRAINED)
    others = [code for code in first.languages if code not in (*trained, "en")]
    columns = [
        (level, name, lambda report, over=over: statistics.mean(report.value(metric, code) for code in over))
        for level in levels
        for name, over in (("trained", trained), ("others", others), ("en", ["en"]))
        if over
    ]
    rows = [
        [name, *(spread([value(run[stage][level]) for run in runs]) for level, _, value in columns)]
        for stage, name in RESULT_NAMES.items()
        if stage in runs[0]
    ]
    return table([metric, *(f"{level}, {name}" for level, name, _ in columns)], rows)


def languages(runs: list[Results], level: str) -> str:
    first = runs[0]["before"][level]
    trained = first.languages_of(Average.TRAINED)
    codes = sorted(first.languages, key=lambda code: code not in trained)
    rows = [
        [name, *(spread([run[stage][level].value("P@1", code) for run in runs]) for code in codes)]
        for stage, name in RESULT_NAMES.items()
        if stage in runs[0]
    ]
    return table([f"P@1, {level}", *(code + ("\\*" if code in trained else "") for code in codes)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--level", choices=[level.value for level in Level], help="Of the table by language; default: as trained."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="Folders of finished runs.")
    args = parser.parse_args()
    configs = [TrainConfig.from_toml(run / "config.toml") for run in args.runs]
    runs = [read(run) for run in args.runs]
    print(f"{len(runs)} runs, seeds {', '.join(str(config.seed) for config in configs)}\n")
    for metric in ("P@1", "MRR@10"):
        print(averages(runs, metric))
    print(languages(runs, args.level or configs[0].level.value))
    print("\\* trained on")


if __name__ == "__main__":
    main()
