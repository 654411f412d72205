"""The result of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from relkt.data import Level, Split, parse_member
from relkt.evaluation.ranking import Ranking, write_qrels, write_run

METRICS = ("P@1", "P@5", "P@10", "MRR@10", "nDCG@10")
"""What is measured. P@k is the share of queries with a positive among the first k (Success@k in ir-measures), as in the
paper; MRR@10 the mean reciprocal rank of the first positive, 0 beyond 10; nDCG@10 weighs all positives."""

MEAN_AVERAGE_PRECISION = "mAP"
"""The mean over queries of the average precision over the ranking of all candidates, in which every positive counts
(:func:`relkt.evaluation.average_precision`). Measured where it is asked for, as it ranks every candidate."""


class Average(str, Enum):
    """Which languages a macro-average is over: the mean of the languages' means, every language counting the same."""

    TRAINED = "trained"
    UNTRAINED = "untrained"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its uncertainty.

    Args:
        value: The mean over the queries.
        interval: 95 % bootstrap interval (lower end, upper end); None if no resamples were drawn, or no resample had a
            question in every language averaged.
    """

    value: float
    interval: tuple[float, float] | None = None

    def format(self, *, with_interval: bool = True) -> str:
        """``0.794 [0.741, 0.845]``, or ``0.794``."""
        text = f"{self.value:.3f}"
        if not with_interval or self.interval is None:
            return text
        return f"{text} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


@dataclass(frozen=True)
class Report:
    """How well a model retrieves, per language and on average.

    Args:
        data: Name of the data set.
        split: The queries' split; None if all queries were evaluated.
        level: What was ranked.
        num_candidates: How many candidates each query was ranked against.
        num_queries: Language -> number of queries; the languages trained on first, then the others.
        trained_languages: The languages among them that the model was trained on; None if not known.
        estimates: Metric -> language -> estimate.
        averages: Metric -> average -> estimate. Averages over no language are missing.
        ranking: What was ranked; None in a report read from JSON.
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
        """The languages evaluated: those trained on first, then the others."""
        return tuple(self.num_queries)

    def estimate(self, metric: str, language: str) -> Estimate:
        """The estimate of a metric in a language.

        Raises:
            ValueError: If the metric or the language was not evaluated.
        """
        return _entry(self._of(metric, self.estimates), "language", language)

    def value(self, metric: str, language: str) -> float:
        """The value of a metric in a language.

        Raises:
            ValueError: If the metric or the language was not evaluated.
        """
        return self.estimate(metric, language).value

    def average(self, metric: str = "P@1", over: Average | str = Average.ALL) -> Estimate:
        """The macro-average of a metric over languages.

        Raises:
            ValueError: If the metric was not evaluated, or there is no such language.
        """
        return _entry(self._of(metric, self.averages), "over", parse_member(Average, over, "over"))

    def languages_of(self, over: Average | str) -> tuple[str, ...]:
        """The languages an average is over."""
        over = parse_member(Average, over, "over")
        trained = set(self.trained_languages or ())
        if over is Average.ALL:
            return self.languages
        return tuple(language for language in self.languages if (language in trained) == (over is Average.TRAINED))

    def to_markdown(self) -> str:
        """A table with a row for each language and average, and a column for each metric."""
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
        """The report, without its ranking, as plain values for JSON."""
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
        """The report, without its ranking, as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """The report of which :meth:`to_dict` gave the values.

        Raises:
            ValueError: If the values are not those of a report.
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
            raise ValueError(f"content: expected the values of a report, got an error: {error!r}") from error

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that :meth:`to_json` wrote.

        Raises:
            ValueError: If the text is no JSON, or not that of a report.
        """
        return cls.from_dict(json.loads(text))

    def write_run(self, path: str | Path, tag: str = "relkt") -> None:
        """Writes the ranking as a TREC run; equal scores are written one float32 step apart, to keep their order.

        Raises:
            ValueError: If the report was read from JSON, which holds no ranking, or the tag is not one word.
        """
        write_run(self._ranked()[0], path, tag)

    def write_qrels(self, path: str | Path) -> None:
        """Writes the evaluated queries' judgements, at the level evaluated, as TREC qrels.

        Raises:
            ValueError: If the report was read from JSON, which holds no judgements.
        """
        ranking, qrels = self._ranked()
        write_qrels(ranking.query_ids, qrels, path)

    def _ranked(self) -> tuple[Ranking, Mapping[str, Mapping[str, int]]]:
        if self.ranking is None or self.qrels is None:
            raise ValueError("report: holds no ranking, since it was read from JSON; evaluate again to export one")
        return self.ranking, self.qrels

    def _of(self, metric: str, table: Mapping[str, Any]) -> Mapping[Any, Estimate]:
        if metric not in table:
            raise ValueError(f"metric: expected one of {', '.join(table)}, got {metric!r}")
        row: Mapping[Any, Estimate] = table[metric]
        return row


def _entry(row: Mapping[Any, Estimate], argument: str, key: str) -> Estimate:
    if key not in row:
        names = ", ".join(k.value if isinstance(k, Enum) else k for k in row)
        got = key.value if isinstance(key, Enum) else key
        raise ValueError(f"{argument}: expected one of {names}, got {got!r}")
    return row[key]


def _plain(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else list(estimate.interval)
    return {"value": estimate.value, "interval": interval}


def _estimate(content: Mapping[str, Any]) -> Estimate:
    interval = content["interval"]
    return Estimate(content["value"], None if interval is None else (interval[0], interval[1]))
