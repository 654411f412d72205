"""The tables of an experiment, in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from relkt.data import Level
from relkt.report import RESULT_NAMES
from relkt.reproduce.measurement import Measurement
from relkt.reproduce.reproduction import Cell, Mean, Reproduction

_LEVELS = {
    Level.PASSAGE: "one of {:,} passages",
    Level.DOCUMENT: "one of {:,} documents, each embedded as one text (its passages joined)",
    Level.BEST_PASSAGE: "one of {:,} documents, each scored by its best passage",
}
_TESTED = (Level.PASSAGE, Level.BEST_PASSAGE)


def to_markdown(reproduction: Reproduction) -> str:
    """The report of an experiment: its conditions; P@1 by row and language at each level; the tests between rows; and
    the results after each stage, for rows with several stages."""
    parts = [f"# {reproduction.data}: {len(reproduction.rows)} systems"]
    if reproduction.command:
        parts.append(f"```\n{reproduction.command}\n```")
    parts += [_made(reproduction), _systems(reproduction), _explanation(reproduction)]
    for level, words in _LEVELS.items():
        parts.append(f"## {level.value}: {words.format(reproduction.num_candidates[level])}")
        parts.append(_level_table(reproduction, level))
    if compared := _compared(reproduction):
        parts += ["## Paired bootstrap tests", _about_tests(reproduction)]
        parts += [_tests(reproduction, level, compared) for level in _TESTED]
    staged = [row.name for row in reproduction.rows if row.config is not None and len(row.config.stages) > 1]
    if staged:
        parts += ["## Stage by stage", _about_stages(reproduction)]
        parts += [_stages(reproduction, name) for name in staged]
    return "\n\n".join(parts) + "\n"


def main_mean(reproduction: Reproduction) -> Mean | None:
    """The mean over the trained languages, or over all but English if none is trained. None if only English is left."""
    return next(iter(reproduction.means), None)


def _made(reproduction: Reproduction) -> str:
    """Machines, versions, date."""
    runs = {
        (name if run.seed is None else f"{name}, seed {run.seed}"): measurement
        for name, of_row in reproduction.measurements.items()
        for run, measurement in of_row.items()
    }
    days = sorted(measurement.finished[:10] for measurement in runs.values())
    lines = [f"Measured on {days[0]}." if days[0] == days[-1] else f"Measured from {days[0]} to {days[-1]}."]
    machines: dict[str, list[str]] = {}
    for name, measurement in runs.items():
        machines.setdefault(json.dumps(measurement.machine), []).append(name)
    for content, names in machines.items():
        of = f" ({'; '.join(names)})" if len(machines) > 1 else ""
        lines.append(f"{_machine(json.loads(content))}{of}.")
    return "\n".join(lines)


def _machine(machine: Mapping[str, Any]) -> str:
    cores, threads = machine["cores"], machine["threads"]
    gpu = machine["gpu"] or "no GPU used"
    # "?" is the version of a package that is not installed.
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version != "?")
    cores = f"{cores} core{'s' * (cores != 1)}, {threads} thread{'s' * (threads != 1)} used"
    return f"{machine['cpu'] or 'unknown processor'}, {cores}, {gpu}; {versions}"


def _systems(reproduction: Reproduction) -> str:
    rows = []
    for row in reproduction.rows:
        runs = reproduction.measurements[row.name]
        seeds = "-" if row.config is None else ", ".join(str(run.seed) for run in runs)
        seconds = [measurement.seconds for measurement in runs.values()]
        rows.append([row.name, row.description, seeds, duration(statistics.fmean(seconds)), duration(sum(seconds))])
    return _table(["row", "system", "seeds", "wall time a run", "wall time"], rows, left=3)


def _explanation(reproduction: Reproduction) -> str:
    queries = reproduction.num_queries
    least, most = min(queries.values()), max(queries.values())
    counted = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    text = (
        f"P@1 on {counted} test questions in each of {len(queries)} language{'s' * (len(queries) != 1)}: the share of "
        "questions whose first candidate answers them. Trained systems: mean ± standard deviation (n - 1) over the "
        "seeds. The best value of a column is bold. Means give each language the same weight and leave out English, "
        "the language of the passages"
    )
    if reproduction.trained_languages:
        text += "; \\* a language that the trained systems train on"
    return text + ". `results.json` has the other metrics, every seed, and 95 % bootstrap intervals over questions."


def _level_table(reproduction: Reproduction, level: Level) -> str:
    """Rows by languages and means, the best of each column in bold."""
    trained = reproduction.trained_languages
    heads = [f"{language}\\*" if language in trained else language for language in reproduction.languages]
    heads += [f"{mean.value} ({len(languages)})" for mean, languages in reproduction.means.items()]
    columns = []
    for name in (*reproduction.languages, *reproduction.means):
        cells = [reproduction.cell(row.name, level, name) for row in reproduction.rows]
        # Values are compared as printed, so that equal numbers are equally bold.
        best = max((round(cell.value, 3) for cell in cells if cell is not None), default=None)
        alone = sum(cell is not None for cell in cells) < 2
        columns.append([_shown(cell, bold=not alone and _rounded(cell) == best) for cell in cells])
    rows = [[row.name, *texts] for row, texts in zip(reproduction.rows, zip(*columns, strict=True), strict=True)]
    return _table(["P@1", *heads], rows)


def _rounded(cell: Cell | None) -> float | None:
    return None if cell is None else round(cell.value, 3)


def _shown(cell: Cell | None, *, bold: bool) -> str:
    if cell is None:
        return "-"
    text = _spread(cell.value, cell.deviation)
    return f"**{text}**" if bold else text


def _spread(value: float, deviation: float | None) -> str:
    return f"{value:.3f}" if deviation is None else f"{value:.3f} ± {deviation:.3f}"


def _compared(reproduction: Reproduction) -> list[str]:
    """The rows that have the tested mean; empty if there are fewer than two."""
    mean = main_mean(reproduction)
    if mean is None:
        return []
    names = [row.name for row in reproduction.rows if reproduction.cell(row.name, Level.PASSAGE, mean) is not None]
    return names if len(names) > 1 else []


def _about_tests(reproduction: Reproduction) -> str:
    mean = main_mean(reproduction)
    assert mean is not None
    languages = ", ".join(reproduction.means[mean])
    return (
        f"Two-sided p-values for the difference in P@1, averaged over {languages} ({mean.value}). "
        f"{reproduction.num_resamples:,} resamples of the questions, each with all its translations, the same ones for "
        "both systems; values are averaged over the seeds first. The p-values are about other questions like these, "
        "given these training runs, and are not corrected for the number of pairs. `results.json` has every pair at "
        "every level, by every metric, in every language."
    )


def _tests(reproduction: Reproduction, level: Level, names: Sequence[str]) -> str:
    """A triangular table: each row against the rows before it."""
    mean = main_mean(reproduction)
    assert mean is not None
    rows = []
    for number, name in enumerate(names[1:], start=1):
        tests = [reproduction.comparison(other, name, level).p_values[mean.value] for other in names[:number]]
        cells = ["-" if p is None else f"{p:.4f}" for p in tests]
        rows.append([name, *cells, *[""] * (len(names) - 1 - number)])
    return _table([f"p, {level.value}", *names[:-1]], rows)


def _about_stages(reproduction: Reproduction) -> str:
    mean = main_mean(reproduction)
    over = "" if mean is None else f"; test: {mean.value}"
    return (
        "P@1 of the weights kept after each stage, averaged over languages: mean ± standard deviation over the seeds. "
        f"Dev: the trained languages, at the level of the configuration{over}."
    )


def _stages(reproduction: Reproduction, name: str) -> str:
    mean = main_mean(reproduction)
    languages = () if mean is None else reproduction.means[mean]
    runs = list(reproduction.measurements[name].values())
    row = next(row for row in reproduction.rows if row.name == name)
    assert row.config is not None
    heads = [name, f"dev, {row.config.level.value}", *(f"test, {level.value}" for level in Level)]
    rows = []
    for number, stage in enumerate(runs[0].stages):
        dev = [p1 for run in runs if (p1 := run.stages[number].dev_p1) is not None]
        cells = [_over_runs(dev) if dev else "-"]
        cells += [
            _over_runs([_mean_of(run, number, level, languages) for run in runs]) if languages else "-"
            for level in Level
        ]
        rows.append([RESULT_NAMES[stage.name], *cells])
    return _table(heads, rows)


def _mean_of(run: Measurement, stage: int, level: Level, languages: Sequence[str]) -> float:
    by_language = run.stages[stage].test[level.value]
    return statistics.fmean(by_language[language] for language in languages)


def _over_runs(values: Sequence[float]) -> str:
    return _spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def duration(seconds: float) -> str:
    """``38 s``, ``4 min 10 s`` or ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are text, the others are numbers."""
    ruler = ["---"] * left + ["---:"] * (len(heads) - left)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ruler, *rows))
