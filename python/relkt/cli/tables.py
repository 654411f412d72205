"""Tables that more than one command shows."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from relkt.data import Level
from relkt.evaluation import Average, Report
from relkt.report import RESULT_NAMES

METRIC = "P@1"


def stages_table(results: Path, level: Level) -> Table:
    """P@1 in every language, before training and after each stage.

    Args:
        results: A run's ``results.json``.
        level: What was found.
    """
    content = json.loads(results.read_text(encoding="utf-8"))
    reports = {
        name.removeprefix("after "): Report.from_dict(content[stage][level.value])
        for stage, name in RESULT_NAMES.items()
        if stage in content
    }
    first = next(iter(reports.values()))
    trained = first.languages_of(Average.TRAINED)
    table = Table(
        title=f"{METRIC} on test questions, one of {first.num_candidates:,} {level.value}s, after each stage",
        caption="* trained on",
    )
    table.add_column("language")
    for name in reports:
        table.add_column(name, justify="right")
    for code in sorted(first.languages, key=lambda code: code not in trained):
        values = [f"{report.value(METRIC, code):.3f}" for report in reports.values()]
        table.add_row(code + "*" * (code in trained), *values)
    table.add_section()
    for average, name in ((Average.TRAINED, "mean*"), (Average.UNTRAINED, "mean, others")):
        if first.languages_of(average):
            table.add_row(name, *(f"{report.average(METRIC, average).value:.3f}" for report in reports.values()))
    return table
