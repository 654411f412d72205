"""The conditions of mining: checked once, then a window of scores for each query."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relkt.arrays import as_count

DEFAULT_NUM_NEGATIVES = 3
"""Negatives for each query, where nothing else is asked for."""

RANDOM_RANGE = 10
"""Candidates to draw from for each negative, where no range is given."""


DEFAULT_MARGIN = 0.1
"""Width of the semi-hard window."""

# What scores, which are cosines, and their differences can be.
_BOUNDS = {
    "min_score": (-1, 1),
    "max_score": (-1, 1),
    "max_positive_similarity": (-1, 1),
    "absolute_margin": (-2, 2),
    "relative_margin": (-2, 2),
}


class Strategy(str, Enum):
    """Which of the candidates in the range become negatives."""

    TOP = "top"
    """The best."""
    RANDOM = "random"
    """Drawn at random, every choice as likely as any other."""


class Wanted(NamedTuple):
    """A list of negatives that is wanted: the best ``num`` with above < score < below.

    Attributes:
        num: Negatives for each query, at most.
        above: (q,) float64.
        below: (q,) float64.
    """

    num: int
    above: NDArray[np.float64]
    below: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What :func:`relkt.mine` is asked for; its docstring explains each."""

    num_negatives: int
    strategy: Strategy
    range_min: int
    range_max: int | None
    min_score: float | None
    max_score: float | None
    absolute_margin: float | None
    relative_margin: float | None
    num_hard: int
    num_semi_hard: int
    margin: float
    max_positive_similarity: float | None
    seed: int

    @classmethod
    def checked(
        cls,
        *,
        num_negatives: Any,
        strategy: Any,
        range_min: Any,
        range_max: Any,
        num_hard: Any,
        num_semi_hard: Any,
        margin: Any,
        seed: Any,
        **numbers: Any,
    ) -> Conditions:
        """Checks all arguments.

        Raises:
            TypeError: If one has the wrong type.
            ValueError: If one is out of range, or they contradict each other.
        """
        num_hard = as_count("num_hard", num_hard, "of at least 0", least=0)
        num_semi_hard = as_count("num_semi_hard", num_semi_hard, "of at least 0", least=0)
        if num_negatives is None:
            num_negatives = 0 if num_hard or num_semi_hard else DEFAULT_NUM_NEGATIVES
        num_negatives = as_count("num_negatives", num_negatives, "of at least 0", least=0)
        if num_negatives + num_hard + num_semi_hard == 0:
            raise ValueError("num_negatives, num_hard, num_semi_hard: expected at least one of them to be above 0")
        if not isinstance(strategy, str) or strategy not in list(Strategy):
            expected = " or ".join(repr(known.value) for known in Strategy)
            raise ValueError(f"strategy: expected {expected}, got {strategy!r}")
        range_min = as_count("range_min", range_min, "of at least 0", least=0)
        if range_max is not None:
            range_max = as_count("range_max", range_max, "of at least 1, or None", least=1)
            if range_max - range_min < num_negatives:
                raise ValueError(
                    f"range_max: expected at least range_min + num_negatives = {range_min + num_negatives}, so that "
                    f"the range holds the negatives wanted, got {range_max}"
                )
        values = {name: _within(name, value, *_BOUNDS[name]) for name, value in numbers.items()}
        if num_negatives == 0:
            of_num_negatives = {
                "strategy": strategy != Strategy.TOP,
                "range_min": range_min > 0,
                "range_max": range_max is not None,
                "absolute_margin": values["absolute_margin"] is not None,
                "relative_margin": values["relative_margin"] is not None,
            }
            if ignored := [name for name, given in of_num_negatives.items() if given]:
                raise ValueError(
                    f"{', '.join(ignored)}: expected only with num_negatives above 0, as hard and semi-hard negatives "
                    "have windows of their own, got num_negatives = 0"
                )
        low, high = values["min_score"], values["max_score"]
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_score: expected at most max_score = {high}, got {low}")
        margin = _within("margin", margin, 0, 2)
        if margin is not None and num_semi_hard == 0:
            raise ValueError(
                f"margin: expected only with num_semi_hard above 0, whose window it is, got {margin}; a distance from "
                "the positive is absolute_margin or relative_margin"
            )
        return cls(
            num_negatives=num_negatives,
            strategy=Strategy(strategy),
            range_min=range_min,
            range_max=range_max,
            num_hard=num_hard,
            num_semi_hard=num_semi_hard,
            margin=DEFAULT_MARGIN if margin is None else margin,
            seed=_seed(seed),
            **values,
        )

    @property
    def depends_on_positives(self) -> bool:
        """Whether a condition needs the score of each query's positives."""
        margins = (self.absolute_margin, self.relative_margin)
        return bool(self.num_hard or self.num_semi_hard) or any(margin is not None for margin in margins)

    def ranks(self, passages: int) -> int:
        """How many candidates are looked for to find ``num_negatives``; 0 if none are wanted."""
        if self.num_negatives == 0:
            return 0
        last = self.range_min + self.num_negatives
        if self.strategy is Strategy.RANDOM:
            default = self.range_min + RANDOM_RANGE * self.num_negatives
            last = self.range_max if self.range_max is not None else default
        return min(last, passages)

    def most_ranks(self, passages: int) -> int:
        """The most candidates that a list holds for each query."""
        return min(passages, max(self.ranks(passages), self.num_hard, self.num_semi_hard))

    def wanted(self, positive_scores: NDArray[np.float32], passages: int) -> list[Wanted]:
        """The lists of negatives: of ``num_negatives``, of ``num_hard`` and of ``num_semi_hard``, where not 0.

        Scores are float32, so a limit that belongs to the window is the same as the next number of double precision
        that does not.
        """
        with np.errstate(all="ignore"):  # limits may be subnormal or overflow, whatever the caller wants to hear of
            return self._wanted(positive_scores.astype(np.float64), passages)

    def _wanted(self, positive: NDArray[np.float64], passages: int) -> list[Wanted]:
        low = np.nextafter(-math.inf if self.min_score is None else self.min_score, -math.inf)
        high = np.nextafter(math.inf if self.max_score is None else self.max_score, math.inf)
        above, below = np.full(positive.shape, low), np.full(positive.shape, high)
        lists = []
        if ranks := self.ranks(passages):
            limits = upper_limits(positive, self.absolute_margin, self.relative_margin, self.max_score)
            limit = np.minimum.reduce([np.nextafter(allowed, math.inf) for allowed in limits.values()] or [below])
            lists.append(Wanted(ranks, above, limit))
        if self.num_hard:
            lists.append(Wanted(min(self.num_hard, passages), np.maximum(above, positive), below))
        if self.num_semi_hard:
            lists.append(
                Wanted(
                    min(self.num_semi_hard, passages),
                    np.maximum(above, positive - self.margin),
                    np.minimum(below, positive),
                )
            )
        return lists


def upper_limits(
    positive: NDArray[np.float64],
    absolute_margin: float | None,
    relative_margin: float | None,
    max_score: float | None,
) -> dict[str, NDArray[np.float64]]:
    """For each upper limit that is set the highest score allowed, (q,); ``positive``: (q,) the lowest positive's."""
    limits = {}
    if absolute_margin is not None:
        limits["absolute_margin"] = positive - absolute_margin
    if relative_margin is not None:
        limits["relative_margin"] = positive - np.abs(positive) * relative_margin
    if max_score is not None:
        limits["max_score"] = np.full(len(positive), max_score)
    return limits


def _within(name: str, value: Any, low: float, high: float) -> float | None:
    """A number between two limits, which say how percentages are not meant."""
    number = as_number(name, value)
    if number is not None and not low <= number <= high:
        raise ValueError(f"{name}: expected a number from {low} to {high}, got {value}")
    return number


def as_number(name: str, value: Any) -> float | None:
    """A finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number, or None, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, or None, got {value}")
    return number


def _seed(seed: Any) -> int:
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer, got {seed!r}") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"seed: expected an integer from 0 to 2**64 - 1, got {value}")
    return value
