"""Summarising measurements: means over seeds, intervals over questions, paired tests between rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from relkt.data import Level, RetrievalData
from relkt.evaluation import METRICS
from relkt.evaluation.bootstrap import paired_bootstrap_p, percentile_interval, resampled_means
from relkt.reproduce.measurement import Measurement
from relkt.reproduce.reproduction import Cell, Comparison, Reproduction, means_of
from relkt.reproduce.rows import Row, Run

Array = NDArray[np.float64]


def summarise(
    data: RetrievalData,
    rows: Sequence[Row],
    measurements: Mapping[str, Mapping[Run, Measurement]],
    *,
    trained_languages: Sequence[str],
    num_resamples: int,
    command: str,
    seed: int = 0,
) -> Reproduction:
    """Compute averages, intervals and tests.

    First, the values of each question are averaged over the seeds. Then each resample draws questions, each with all
    its translations. All rows use the same resamples.

    Args:
        data: The test questions and the candidates.
        rows: The systems.
        measurements: Row -> the runs of the row, at least one.
        trained_languages: The languages of the mean ``trained``.
        num_resamples: Number of resamples for intervals and tests.
        command: The command that repeats the experiment.
        seed: Seed of the resampling.
    """
    languages = _in_order(data.languages, trained_languages)
    columns: dict[str, tuple[str, ...]] = {language: (language,) for language in languages}
    columns |= {mean.value: group for mean, group in means_of(languages, trained_languages).items()}
    cells: dict[str, dict[Level, dict[str, dict[str, Cell]]]] = {row.name: {} for row in rows}
    comparisons: list[Comparison] = []
    for level in Level:
        # Row -> column -> (metrics, num_resamples), for one level at a time, since the arrays are large.
        resampled: dict[str, dict[str, Array]] = {}
        for row in rows:
            runs = list(measurements[row.name].values())
            table = _Table(data, languages, runs[0].languages)
            answered = {name: table.rows(group) for name, group in columns.items() if set(group) <= table.answered}
            by_run = np.stack([table.means(run.values[level]) for run in runs])  # (runs, metrics, languages)
            sums = table.sums(np.mean([run.values[level] for run in runs], axis=0))
            draws = resampled_means(sums, table.counts, num_resamples=num_resamples, seed=seed)
            resampled[row.name] = {name: draws[:, :, chosen].mean(axis=2) for name, chosen in answered.items()}
            points = {name: by_run[:, :, chosen].mean(axis=2) for name, chosen in answered.items()}
            ends = {name: percentile_interval(values) for name, values in resampled[row.name].items()}
            cells[row.name][level] = {
                metric: {name: _cell(points[name][:, number], ends[name][number]) for name in answered}
                for number, metric in enumerate(METRICS)
            }
        for first, second in combinations((row.name for row in rows), 2):
            comparisons += _compare(
                (first, second), level, cells[first][level], cells[second][level], resampled[first], resampled[second]
            )
    return Reproduction(
        data=data.name,
        num_queries={language: sum(q.language == language for q in data.queries) for language in languages},
        num_candidates={
            level: len(dict.fromkeys(data.candidates(level).documents))
            if level is Level.BEST_PASSAGE
            else len(data.candidates(level).ids)
            for level in Level
        },
        trained_languages=tuple(language for language in languages if language in trained_languages),
        rows=tuple(rows),
        measurements=measurements,
        cells=cells,
        comparisons=tuple(comparisons),
        num_resamples=num_resamples,
        command=command,
    )


class _Table:
    """Values of questions, by language and question."""

    def __init__(self, data: RetrievalData, languages: Sequence[str], answered: Sequence[str]) -> None:
        self.answered = set(answered)
        self._languages = {language: row for row, language in enumerate(languages)}
        # Questions that a row does not answer are numbered too. So one seed draws the same questions for every row.
        questions = {
            parallel: number for number, parallel in enumerate(dict.fromkeys(q.parallel for q in data.queries))
        }
        queries = [q for q in data.queries if q.language in self.answered]
        self._at = (
            np.array([self._languages[q.language] for q in queries], dtype=np.int64),
            np.array([questions[q.parallel] for q in queries], dtype=np.int64),
        )
        self._shape = (len(languages), len(questions))
        self.counts = np.zeros(self._shape)
        np.add.at(self.counts, self._at, 1)

    def rows(self, languages: Sequence[str]) -> list[int]:
        return [self._languages[language] for language in languages]

    def sums(self, values: Array) -> Array:
        """The sum of the values per language and question: (metrics, q) to (metrics, languages, questions)."""
        sums = np.zeros((len(values), *self._shape))
        for of_metric, row in zip(sums, values, strict=True):
            np.add.at(of_metric, self._at, row)
        return sums

    def means(self, values: Array) -> Array:
        """The mean per language: (metrics, q) to (metrics, languages); NaN for languages without answers."""
        with np.errstate(invalid="ignore"):
            means: Array = self.sums(values).sum(axis=2) / self.counts.sum(axis=1)
        return means


def _in_order(languages: Sequence[str], trained: Sequence[str]) -> tuple[str, ...]:
    """English first, then the trained languages, then the others."""
    return tuple(sorted(languages, key=lambda code: (code != "en", code not in trained, code)))


def _cell(by_run: Array, ends: Array) -> Cell:
    values = tuple(by_run.tolist())
    return Cell(
        value=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        interval=None if np.isnan(ends).any() else (float(ends[0]), float(ends[1])),
        by_run=values,
    )


def _compare(
    names: tuple[str, str],
    level: Level,
    first: Mapping[str, Mapping[str, Cell]],
    second: Mapping[str, Mapping[str, Cell]],
    first_resampled: Mapping[str, Array],
    second_resampled: Mapping[str, Array],
) -> list[Comparison]:
    columns = [name for name in first_resampled if name in second_resampled]
    differences = {
        name: np.array([first[metric][name].value - second[metric][name].value for metric in METRICS])
        for name in columns
    }
    p_values = {
        name: paired_bootstrap_p(differences[name], first_resampled[name] - second_resampled[name]) for name in columns
    }

    def p_value(name: str, number: int) -> float | None:
        value = float(p_values[name][number])
        return None if math.isnan(value) else value

    return [
        Comparison(
            rows=names,
            level=level,
            metric=metric,
            differences={name: float(differences[name][number]) for name in columns},
            p_values={name: p_value(name, number) for name in columns},
        )
        for number, metric in enumerate(METRICS)
    ]
