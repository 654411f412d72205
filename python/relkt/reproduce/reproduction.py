"""The results of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from relkt.data import Level, parse_member
from relkt.evaluation import METRICS
from relkt.reproduce.measurement import Measurement
from relkt.reproduce.rows import Row, Run


class Mean(str, Enum):
    """The languages of a mean, all with equal weight. No mean includes English, the language of the passages."""

    TRAINED = "trained"
    OTHERS = "others"
    ALL = "all but en"


@dataclass(frozen=True)
class Cell:
    """A metric of a row, in one language or averaged over several.

    Args:
        value: The mean over the seeds.
        deviation: The standard deviation over the seeds (n - 1); None for a single run.
        interval: 95 % bootstrap interval of the mean over the seeds. Each resample draws questions. None if no resample
            had a question in every language.
        by_run: The value of each run, by seed.
    """

    value: float
    deviation: float | None
    interval: tuple[float, float] | None
    by_run: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """A paired bootstrap test between two rows.

    Args:
        rows: The names of the rows.
        level: The kind of candidates.
        metric: The metric.
        differences: Column -> first row minus second row, for the columns that both rows have.
        p_values: Column -> two-sided p-value, not corrected for the number of tests; None if no resample had a question
            in every language.
    """

    rows: tuple[str, str]
    level: Level
    metric: str
    differences: Mapping[str, float]
    p_values: Mapping[str, float | None]


@dataclass(frozen=True)
class Reproduction:
    """The results of an experiment.

    Args:
        data: Name of the data set.
        num_queries: Language -> number of test questions: English first, then the trained languages, then the others.
        num_candidates: Level -> number of candidates.
        trained_languages: The languages of the mean ``trained``.
        rows: The systems.
        measurements: Row -> the runs of the row, by seed.
        cells: Row -> level -> metric -> column (a language, or the value of a :class:`Mean`) -> result. A row has no
            columns for languages that it does not answer.
        comparisons: Every pair of rows, at every level, by every metric.
        num_resamples: Number of resamples for intervals and tests.
        command: The command that repeats the experiment.
    """

    data: str
    num_queries: Mapping[str, int]
    num_candidates: Mapping[Level, int]
    trained_languages: tuple[str, ...]
    rows: tuple[Row, ...]
    measurements: Mapping[str, Mapping[Run, Measurement]] = field(repr=False)
    cells: Mapping[str, Mapping[Level, Mapping[str, Mapping[str, Cell]]]] = field(repr=False)
    comparisons: tuple[Comparison, ...] = field(repr=False)
    num_resamples: int
    command: str

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order of the columns."""
        return tuple(self.num_queries)

    @property
    def means(self) -> dict[Mean, tuple[str, ...]]:
        """The means, with their languages."""
        return means_of(self.languages, self.trained_languages)

    def cell(self, row: str, level: Level | str, column: str | Mean, metric: str = "P@1") -> Cell | None:
        """A result.

        Args:
            row: The name of a row.
            level: The kind of candidates.
            column: A language, or a mean.
            metric: The metric.

        Returns:
            The result; None if the row does not answer the language, or a language of the mean.

        Raises:
            ValueError: If the row, level, column or metric is unknown.
        """
        name = column.value if isinstance(column, Mean) else column
        _expect("row", row, self.cells)
        _expect("column", name, [*self.languages, *(mean.value for mean in self.means)])
        _expect("metric", metric, METRICS)
        return self.cells[row][parse_member(Level, level, "level")][metric].get(name)

    def comparison(self, first: str, second: str, level: Level | str, metric: str = "P@1") -> Comparison:
        """The test between two rows.

        Args:
            first: The row that is earlier in the experiment.
            second: The other row.
            level: The kind of candidates.
            metric: The metric.

        Raises:
            ValueError: If the level or metric is unknown, or there is no such pair of rows in this order.
        """
        level = parse_member(Level, level, "level")
        _expect("metric", metric, METRICS)
        pairs = [c for c in self.comparisons if (c.level, c.metric) == (level, metric)]
        _expect("first, second", (first, second), [c.rows for c in pairs])
        return next(c for c in pairs if c.rows == (first, second))

    def to_dict(self) -> dict[str, Any]:
        """All results, as plain values for JSON."""
        return {
            "data": self.data,
            "command": self.command,
            "num_queries": dict(self.num_queries),
            "num_candidates": {level.value: number for level, number in self.num_candidates.items()},
            "trained_languages": list(self.trained_languages),
            "means": {mean.value: list(languages) for mean, languages in self.means.items()},
            "num_resamples": self.num_resamples,
            "rows": {row.name: self._row(row) for row in self.rows},
            "comparisons": [
                {
                    "rows": list(c.rows),
                    "level": c.level.value,
                    "metric": c.metric,
                    "differences": dict(c.differences),
                    "p_values": dict(c.p_values),
                }
                for c in self.comparisons
            ],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        runs = self.measurements[row.name]
        return {
            "description": row.description,
            "encoder": row.encoder,
            "config": None if row.config is None else {k: v for k, v in row.config.to_dict().items() if k != "seed"},
            "runs": [
                {
                    "seed": run.seed,
                    "seconds": m.seconds,
                    "finished": m.finished,
                    "machine": dict(m.machine),
                    "curve": [{"step": step, "dev_p1": p1} for step, p1 in m.curve],
                    "stages": [{"name": s.name, "dev_p1": s.dev_p1, "test": s.test} for s in m.stages],
                }
                for run, m in runs.items()
            ],
            "results": {
                level.value: {
                    metric: {
                        column: {
                            "mean": cell.value,
                            "deviation": cell.deviation,
                            "interval": None if cell.interval is None else list(cell.interval),
                            "by_run": list(cell.by_run),
                        }
                        for column, cell in columns.items()
                    }
                    for metric, columns in metrics.items()
                }
                for level, metrics in self.cells[row.name].items()
            },
        }


def means_of(languages: Sequence[str], trained: Sequence[str]) -> dict[Mean, tuple[str, ...]]:
    """The languages of each mean; means without languages are left out."""
    foreign = [language for language in languages if language != "en"]
    groups = {
        Mean.TRAINED: tuple(language for language in foreign if language in trained),
        # Without trained languages, "others" would equal "all".
        Mean.OTHERS: tuple(language for language in foreign if language not in trained) if trained else (),
        Mean.ALL: tuple(foreign),
    }
    return {mean: group for mean, group in groups.items() if group}


def _expect(argument: str, value: object, known: Iterable[object]) -> None:
    known = list(known)
    if value not in known:
        raise ValueError(f"{argument}: expected one of {', '.join(map(str, known))}, got {value!r}")
