"""Tables of a run's results on the test questions."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from relkt.data import Level
from relkt.evaluation import Average, Report
from relkt.report import RESULT_NAMES

METRIC = "P@1"


def stages_table(results: Path, level: Level) -> Table:
    """P@1 per language, before training and after each stage.

    Args:
        results: The ``results.json`` of a run.
        level: Level of the candidates.
    """
    reports = _reports(results, level)
    first = next(iter(reports.values()))
    trained = first.languages_of(Average.TRAINED)
    table = Table(
        title=f"{METRIC} on test questions after each stage, among {first.num_candidates:,} {level.value}s",
        caption="* trained language",
    )
    table.add_column("language")
    for name in reports:
        table.add_column(name, justify="right")
    for code in _trained_first(first):
        values = [f"{report.value(METRIC, code):.3f}" for report in reports.values()]
        table.add_row(code + "*" * (code in trained), *values)
    table.add_section()
    for average, name in ((Average.TRAINED, "mean*"), (Average.UNTRAINED, "mean, others")):
        if first.languages_of(average):
            table.add_row(name, *(f"{report.average(METRIC, average).value:.3f}" for report in reports.values()))
    return table


def gains_table(results: Path, level: Level) -> Table:
    """P@1 per language before training and after the last stage, and the gain.

    Args:
        results: The ``results.json`` of a run.
        level: Level of the candidates.
    """
    before, *_, after = _reports(results, level).values()
    trained = before.languages_of(Average.TRAINED)
    table = Table(
        title=f"{METRIC} on held-out questions (share answered by the first {level.value} of {before.num_candidates:,})"
    )
    for name in ("", "before", "after", "gain"):
        table.add_column(name, justify="left" if not name else "right")
    for code in _trained_first(before):
        first, second = before.value(METRIC, code), after.value(METRIC, code)
        note = "" if code in trained else " (not trained)"
        table.add_row(f"{code}{note}", f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}")
    table.add_section()
    mean_before, mean_after = before.average(METRIC).value, after.average(METRIC).value
    gain = f"[bold]{mean_after - mean_before:+.3f}[/]"
    table.add_row("[bold]mean[/]", f"{mean_before:.3f}", f"[bold]{mean_after:.3f}[/]", gain)
    return table


def _reports(results: Path, level: Level) -> dict[str, Report]:
    """Column title -> report, in the order of the stages."""
    content = json.loads(results.read_text(encoding="utf-8"))
    return {
        name.removeprefix("after "): Report.from_dict(content[stage][level.value])
        for stage, name in RESULT_NAMES.items()
        if stage in content
    }


def _trained_first(report: Report) -> list[str]:
    trained = report.languages_of(Average.TRAINED)
    return sorted(report.languages, key=lambda code: code not in trained)
