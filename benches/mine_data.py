"""Queries, passages and positives for compare_mine.py, and the conditions of mining."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from search_data import unit

SEED = 7
# Mean number of passages per topic, and of topics per field; half of a topic's centre is its field's centre.
TOPIC, FIELD = 50, 40
HALF = 0.5**0.5
# Shape of the gamma distribution from which the sizes of topics are drawn.
UNEVEN = 1.5
# Ranges of the length of noise vectors. A topic's centre plus noise is a query or passage; a query plus noise is its
# positive. Centres and queries have length 1.
OFF_TOPIC, OFF_QUERY = (0.4, 1.6), (0.5, 1.6)


@dataclass(frozen=True)
class Case:
    """Conditions of a case, named as in sentence-transformers."""

    name: str
    num_negatives: int = 5
    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: str = "top"

    @property
    def ranked(self) -> int:
        """Number of top candidates from which negatives are selected."""
        return self.range_max or self.num_negatives

    def all_ranked(self) -> Case:
        """A case that selects the candidates of a random sample, and the candidates skipped before them."""
        return replace(self, num_negatives=self.ranked, range_min=0, sampling_strategy="top")

    def arguments(self, strategy: str = "sampling_strategy") -> dict[str, Any]:
        """Arguments of a call; ``strategy`` is the name of its strategy parameter."""
        given = {name: value for name, value in vars(self).items() if name not in ("name", "sampling_strategy")}
        return {**given, strategy: self.sampling_strategy}

    def conditions(self) -> dict[str, Any]:
        """The arguments that are not the defaults."""
        default = vars(Case(""))
        return {name: value for name, value in vars(self).items() if name != "name" and value != default[name]}

    def limits(self, positive_scores: np.ndarray) -> np.ndarray:
        """(q,) float64, the highest score that a negative of each query may have."""
        limits = np.full(positive_scores.shape, np.inf)
        if self.max_score is not None:
            limits = np.minimum(limits, self.max_score)
        if self.absolute_margin is not None:
            limits = np.minimum(limits, positive_scores - self.absolute_margin)
        if self.relative_margin is not None:
            limits = np.minimum(limits, positive_scores - np.abs(positive_scores) * self.relative_margin)
        return limits


CASES = {
    case.name: case
    for case in (
        Case("top"),
        Case("margin", relative_margin=0.05),
        Case("wide margin", absolute_margin=0.2),
        Case("ceiling", max_score=0.5),
        Case("low ceiling", max_score=0.1),
        Case("range", range_min=10, range_max=100, sampling_strategy="random"),
    )
}


@dataclass(frozen=True)
class MiningData:
    """Unit-norm float32 queries and passages, and the row of each query's positive, in .npy files."""

    queries: int
    rows: int
    dim: int
    passages_file: Path
    asked_file: Path
    positives_file: Path


def prepare(queries: int, rows: int, dim: int, scratch: Path) -> MiningData:
    """Writes the data to files in ``scratch``."""
    if queries > rows:
        raise SystemExit(f"--queries: expected at most as many as passages ({rows}), got {queries}")
    data = MiningData(queries, rows, dim, *(scratch / f"{name}.npy" for name in ("passages", "asked", "positives")))
    for file, array in zip(
        (data.passages_file, data.asked_file, data.positives_file), drawn(queries, rows, dim), strict=True
    ):
        np.save(file, array)
    return data


def drawn(queries: int, rows: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Passages, queries and positives: texts of many topics, some nearer to their topic than others.

    A query's positive is the query plus noise of random length, so that some positives rank first and others rank below
    a hundred passages of their topic.
    """
    rng = np.random.default_rng(SEED)
    topics = max(rows // TOPIC, 1)
    fields = rng.standard_normal((max(topics // FIELD, 1), dim), dtype=np.float32)
    centres = HALF * rng.standard_normal((topics, dim), dtype=np.float32)
    centres += HALF * fields[rng.integers(0, len(fields), topics)]
    sizes = rng.gamma(UNEVEN, size=topics)

    def near(centres: np.ndarray, lengths: tuple[float, float]) -> np.ndarray:
        noise = rng.standard_normal(centres.shape, dtype=np.float32)
        noise *= rng.uniform(*lengths, (len(centres), 1)).astype(np.float32)
        noise += centres
        return unit(noise)

    def on_topics(count: int) -> np.ndarray:
        return near(centres[rng.choice(topics, count, p=sizes / sizes.sum())], OFF_TOPIC)

    passages, asked = on_topics(rows), on_topics(queries)
    positives = rng.permutation(rows)[:queries]
    # The factor gives unit rows the length of rows of independent standard normal values.
    passages[positives] = near(asked * np.float32(dim**0.5), OFF_QUERY)
    return passages, asked, positives
