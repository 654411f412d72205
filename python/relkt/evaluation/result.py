"""The result of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from relkt.data import Level, Split, parse_member
from relkt.errors import ArgumentError
from relkt.evaluation.ranking import Ranking
from relkt.evaluation.trec import write_qrels, write_run

METRICS = ("P@1", "P@5", "P@10", "MRR@10", "nDCG@10")
"""The metrics. P@k is the share of queries with a positive among the first k (Success@k in ir-measures), as in the
paper; MRR@10 is the mean reciprocal rank of the first positive, 0 beyond rank 10; nDCG@10 includes all positives."""

MEAN_AVERAGE_PRECISION = "mAP"
"""The mean of all queries' average precision over the ranking of all candidates
(:func:`relkt.evaluation.average_precision`). Optional, as it ranks every candidate."""


class Average(str, Enum):
    """Languages of a macro-average, which is the unweighted mean of the languages' means."""

    TRAINED = "trained"
    UNTRAINED = "untrained"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its uncertainty.

    Args:
        value: The mean over the queries.
        interval: 95 % bootstrap interval (lower end, upper end); None without resamples, or if no resample had a
            question in every averaged language.
    """

    value: float
    interval: tuple[float, float] | None = None

    def format(self, *, with_interval: bool = True) -> str:
        """Formats as ``0.794 [0.741, 0.845]``, or ``0.794``."""
        text = f"{self.value:.3f}"
        if not with_interval or self.interval is None:
            return text
        return f"{text} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


@dataclass(frozen=True)
class Report:
    """Results of an evaluation, per language and on average.

    Args:
        data: Name of the data set.
        split: Split of the queries; None if all queries were evaluated.
        level: Unit that was ranked.
        num_candidates: Number of candidates of each query.
        num_queries: Language -> number of queries. The languages that the model was trained on come first.
        trained_languages: Evaluated languages that the model was trained on; None if unknown.
        estimates: Metric -> language -> estimate.
        averages: Metric -> average -> estimate. An average over no language is left out.
        ranking: The ranking; None in a report read from JSON.
        qrels: Query id -> candidate id -> relevance; None in a report read from JSON.
    """

    data: str
    split: Split | None
    level: Level
    num_candidates: int
    num_queries: Mapping[str, int]
    trained_languages: tuple[str, ...] | None
    estimates: Mapping[str, Mapping[str, Estimate]]
    averages: Mapping[str, Mapping[Average, Estimate]]
    ranking: Ranking | None = field(default=None, repr=False, compare=False)
    qrels: Mapping[str, Mapping[str, int]] | None = field(default=None, repr=False, compare=False)

    @property
    def languages(self) -> tuple[str, ...]:
        """The evaluated languages; those that the model was trained on come first."""
        return tuple(self.num_queries)

    def estimate(self, metric: str, language: str) -> Estimate:
        """Returns the estimate of a metric in a language.

        Raises:
            ArgumentError: If the metric or the language was not evaluated.
        """
        return _entry(self._of(metric, self.estimates), "language", language)

    def value(self, metric: str, language: str) -> float:
        """Returns the value of a metric in a language.

        Raises:
            ArgumentError: If the metric or the language was not evaluated.
        """
        return self.estimate(metric, language).value

    def average(self, metric: str = "P@1", over: Average | str = Average.ALL) -> Estimate:
        """Returns the macro-average of a metric over languages.

        Raises:
            ArgumentError: If the metric was not evaluated, or the average is over no language.
        """
        return _entry(self._of(metric, self.averages), "over", parse_member(Average, over, "over"))

    def languages_of(self, over: Average | str) -> tuple[str, ...]:
        """Returns the languages of an average."""
        over = parse_member(Average, over, "over")
        trained = set(self.trained_languages or ())
        if over is Average.ALL:
            return self.languages
        return tuple(language for language in self.languages if (language in trained) == (over is Average.TRAINED))

    def to_markdown(self) -> str:
        """Returns a Markdown table with a row for each language and average, and a column for each metric."""
        split = "all" if self.split is None else self.split.value
        lines = [
            f"{self.data}, {split} queries, level {self.level.value}, {self.num_candidates:,} candidates; "
            "95 % bootstrap intervals over questions",
            "",
            f"| language | queries | {' | '.join(self.estimates)} |",
            f"|---|---:|{'---|' * len(self.estimates)}",
        ]
        trained = set(self.trained_languages or ())
        for language, count in self.num_queries.items():
            cells = " | ".join(estimates[language].format() for estimates in self.estimates.values())
            mark = "\\*" if language in trained else ""
            lines.append(f"| {language}{mark} | {count:,} | {cells} |")
        for average in Average:
            if all(average in estimates for estimates in self.averages.values()):
                languages = self.languages_of(average)
                cells = " | ".join(f"**{estimates[average].format()}**" for estimates in self.averages.values())
                count = sum(self.num_queries[language] for language in languages)
                lines.append(f"| **{average.value}** ({len(languages)}) | {count:,} | {cells} |")
        if trained:
            lines += ["", "\\* trained on"]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Returns the report, without its ranking, as plain values for JSON."""
        return {
            "data": self.data,
            "split": None if self.split is None else self.split.value,
            "level": self.level.value,
            "num_candidates": self.num_candidates,
            "num_queries": dict(self.num_queries),
            "trained_languages": None if self.trained_languages is None else list(self.trained_languages),
            "estimates": {
                metric: {language: _plain(e) for language, e in row.items()} for metric, row in self.estimates.items()
            },
            "averages": {
                metric: {average.value: _plain(e) for average, e in row.items()}
                for metric, row in self.averages.items()
            },
        }

    def to_json(self) -> str:
        """Returns the report, without its ranking, as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """Makes a report from the values of :meth:`to_dict`.

        Raises:
            ValueError: If the values do not describe a report.
        """
        try:
            trained = content["trained_languages"]
            return cls(
                data=content["data"],
                split=None if content["split"] is None else Split(content["split"]),
                level=Level(content["level"]),
                num_candidates=content["num_candidates"],
                num_queries=dict(content["num_queries"]),
                trained_languages=None if trained is None else tuple(trained),
                estimates={
                    metric: {language: _estimate(e) for language, e in row.items()}
                    for metric, row in content["estimates"].items()
                },
                averages={
                    metric: {Average(average): _estimate(e) for average, e in row.items()}
                    for metric, row in content["averages"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"content: expected the values of a report, got {error!r}") from error

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Makes a report from the text of :meth:`to_json`.

        Raises:
            ValueError: If the text is not JSON, or does not describe a report.
        """
        return cls.from_dict(json.loads(text))

    def write_run(self, path: str | Path, tag: str = "relkt") -> None:
        """Writes the ranking as a TREC run file, completely or not at all; see :func:`relkt.evaluation.trec.write_run`.

        Raises:
            ValueError: If the report was read from JSON, which has no ranking, or the tag is not one word.
        """
        write_run(self._ranked()[0], path, tag)

    def write_qrels(self, path: str | Path) -> None:
        """Writes the judgements of the evaluated queries as TREC qrels, completely or not at all.

        Raises:
            ValueError: If the report was read from JSON, which has no judgements.
        """
        ranking, qrels = self._ranked()
        write_qrels(ranking.query_ids, qrels, path)

    def _ranked(self) -> tuple[Ranking, Mapping[str, Mapping[str, int]]]:
        if self.ranking is None or self.qrels is None:
            raise ValueError("report: has no ranking, since it was read from JSON; evaluate again to export one")
        return self.ranking, self.qrels

    def _of(self, metric: str, table: Mapping[str, Any]) -> Mapping[Any, Estimate]:
        if metric not in table:
            raise ArgumentError("metric", f"one of {', '.join(table)}", repr(metric))
        row: Mapping[Any, Estimate] = table[metric]
        return row


def _entry(row: Mapping[Any, Estimate], argument: str, key: str) -> Estimate:
    if key not in row:
        names = ", ".join(k.value if isinstance(k, Enum) else k for k in row)
        got = key.value if isinstance(key, Enum) else key
        raise ArgumentError(argument, f"one of {names}", repr(got))
    return row[key]


def _plain(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else list(estimate.interval)
    return {"value": estimate.value, "interval": interval}


def _estimate(content: Mapping[str, Any]) -> Estimate:
    interval = content["interval"]
    return Estimate(content["value"], None if interval is None else (interval[0], interval[1]))
