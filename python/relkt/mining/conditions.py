"""Conditions of mining: their definition, their checks, and the score windows that apply them."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict, Unpack

from relkt.arrays import as_count
from relkt.errors import ArgumentError, Parameter

DEFAULT_NUM_NEGATIVES = 3
"""Negatives per query, unless only hard or semi-hard negatives are requested."""

RANDOM_RANGE = 10
"""Size of the default range of strategy "random", as a multiple of ``num_negatives``."""

DEFAULT_MARGIN = 0.1
"""Default width of the semi-hard window."""

# Scores are cosines.
_BOUNDS = {
    "min_score": (-1, 1),
    "max_score": (-1, 1),
    "absolute_margin": (-2, 2),
    "relative_margin": (-2, 2),
    "max_positive_similarity": (-1, 1),
}

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Strategy(str, Enum):
    """Rule that selects negatives from the range of candidates."""

    TOP = "top"
    """The candidates with the highest scores."""
    RANDOM = "random"
    """A uniform random sample."""


class ScoreWindow(NamedTuple):
    """One list of negatives to find: the best ``num`` candidates with above < score < below.

    Attributes:
        num: Maximum number of negatives per query.
        above: (q,) float64.
        below: (q,) float64.
    """

    num: int
    above: NDArray[np.float64]
    below: NDArray[np.float64]


class ConditionArgs(TypedDict, total=False):
    """The conditions as keyword arguments; :func:`relkt.mine` describes each."""

    num_negatives: int | None
    strategy: Strategy | str
    range_min: int
    range_max: int | None
    min_score: float | None
    max_score: float | None
    absolute_margin: float | None
    relative_margin: float | None
    num_hard: int
    num_semi_hard: int
    margin: float | None
    max_positive_similarity: float | None
    seed: int


@dataclass(frozen=True, init=False)
class MiningConditions:
    """Conditions that a candidate must meet to become a negative: the arguments of :func:`relkt.mine`, checked.

    Raises:
        TypeError: If a condition is unknown or has the wrong type.
        ValueError: If a condition is out of range, or two contradict each other.
    """

    num_negatives: int = None  # type: ignore[assignment]  # __init__ sets a number
    strategy: Strategy = Strategy.TOP
    range_min: int = 0
    range_max: int | None = None
    min_score: float | None = None
    max_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    num_hard: int = 0
    num_semi_hard: int = 0
    margin: float | None = None
    max_positive_similarity: float | None = None
    seed: int = 0

    def __init__(self, **conditions: Unpack[ConditionArgs]) -> None:
        values: dict[str, Any] = {field.name: field.default for field in fields(self)}
        if unknown := next((name for name in conditions if name not in values), None):
            raise TypeError(f"got an unexpected keyword argument {unknown!r}; the conditions are {', '.join(values)}")
        values |= conditions
        _check_counts(values)
        _check_range(values)
        for name, bounds in _BOUNDS.items():
            values[name] = _within(name, values[name], *bounds)
        _check_apply(values)
        low, high = values["min_score"], values["max_score"]
        if low is not None and high is not None and low > high:
            raise ArgumentError("min_score", ["at most ", Parameter("max_score"), f" = {high}"], low)
        _check_margin(values)
        values["seed"] = _seed(values["seed"])
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def depends_on_positives(self) -> bool:
        """True if a condition compares candidates with the scores of the query's positives."""
        margins = (self.absolute_margin, self.relative_margin)
        return bool(self.num_hard or self.num_semi_hard) or any(margin is not None for margin in margins)

    def ranks(self, passages: int) -> int:
        """Number of candidates to find per query for ``num_negatives``; 0 if ``num_negatives`` is 0."""
        if self.num_negatives == 0:
            return 0
        last = self.range_min + self.num_negatives
        if self.strategy is Strategy.RANDOM:
            default = self.range_min + RANDOM_RANGE * self.num_negatives
            last = self.range_max if self.range_max is not None else default
        return min(last, passages)

    def limited_to(self, passages: int) -> MiningConditions:
        """The same conditions with at most ``passages`` negatives per query, which saves memory for the results."""
        return replace(self, num_negatives=min(self.num_negatives, passages))

    def max_ranks(self, passages: int) -> int:
        """The length of the longest list of candidates per query."""
        return min(passages, max(self.ranks(passages), self.num_hard, self.num_semi_hard))

    def windows(self, positive_scores: NDArray[np.float32], passages: int) -> list[ScoreWindow]:
        """The windows of ``num_negatives``, ``num_hard`` and ``num_semi_hard``, in this order; none for a number of 0.

        Scores are float32, so an inclusive limit equals an exclusive limit at the next float64.
        """
        with np.errstate(all="ignore"):  # limits may underflow or overflow under any np.errstate of the caller
            return self._windows(positive_scores.astype(np.float64), passages)

    def _windows(self, positive: NDArray[np.float64], passages: int) -> list[ScoreWindow]:
        low = np.nextafter(-math.inf if self.min_score is None else self.min_score, -math.inf)
        high = np.nextafter(math.inf if self.max_score is None else self.max_score, math.inf)
        above, below = np.full(positive.shape, low), np.full(positive.shape, high)
        windows = []
        if ranks := self.ranks(passages):
            limits = upper_limits(positive, self.absolute_margin, self.relative_margin, self.max_score)
            limit = np.minimum.reduce([np.nextafter(allowed, math.inf) for allowed in limits.values()] or [below])
            windows.append(ScoreWindow(ranks, above, limit))
        if self.num_hard:
            windows.append(ScoreWindow(min(self.num_hard, passages), np.maximum(above, positive), below))
        if self.num_semi_hard:
            margin = DEFAULT_MARGIN if self.margin is None else self.margin
            windows.append(
                ScoreWindow(
                    min(self.num_semi_hard, passages),
                    np.maximum(above, positive - margin),
                    np.minimum(below, positive),
                )
            )
        return windows


def shows_conditions(function: FunctionT) -> FunctionT:
    """Decorator: lists the conditions in the signature in place of ``**conditions``, for ``help`` and editors."""
    signature = inspect.signature(function)
    types = get_type_hints(ConditionArgs)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
                )
                for field in fields(MiningConditions)
            ]
        else:
            parameters.append(parameter)
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


shows_conditions(MiningConditions.__init__)


def upper_limits(
    positive: NDArray[np.float64],
    absolute_margin: float | None,
    relative_margin: float | None,
    max_score: float | None,
) -> dict[str, NDArray[np.float64]]:
    """The highest score that each given limit allows, (q,); ``positive`` has each query's lowest positive score."""
    limits = {}
    if absolute_margin is not None:
        limits["absolute_margin"] = positive - absolute_margin
    if relative_margin is not None:
        limits["relative_margin"] = positive - np.abs(positive) * relative_margin
    if max_score is not None:
        limits["max_score"] = np.full(len(positive), max_score)
    return limits


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
        raise ArgumentError(name, "a finite number, or None", value)
    return number


def check_range_max(range_min: int, range_max: int, num_negatives: int) -> None:
    """Checks that the range from ``range_min`` to ``range_max`` has room for ``num_negatives``.

    Raises:
        ValueError: If the range is too short.
    """
    if range_max - range_min < num_negatives:
        raise ArgumentError(
            "range_max",
            [
                *("at least ", Parameter("range_min"), " + ", Parameter("num_negatives")),
                f" = {range_min + num_negatives}, so that the range has room for the negatives",
            ],
            range_max,
        )


def _check_counts(values: dict[str, Any]) -> None:
    for name in ("num_hard", "num_semi_hard"):
        values[name] = as_count(name, values[name], "of at least 0", least=0)
    if values["num_negatives"] is None:
        values["num_negatives"] = 0 if values["num_hard"] or values["num_semi_hard"] else DEFAULT_NUM_NEGATIVES
    values["num_negatives"] = as_count("num_negatives", values["num_negatives"], "of at least 0", least=0)
    if values["num_negatives"] + values["num_hard"] + values["num_semi_hard"] == 0:
        raise ArgumentError(
            "num_negatives, num_hard, num_semi_hard", problem="expected at least one of them to be above 0"
        )


def _check_range(values: dict[str, Any]) -> None:
    strategy = values["strategy"]
    if not isinstance(strategy, str) or strategy not in list(Strategy):
        raise ArgumentError("strategy", " or ".join(repr(known.value) for known in Strategy), repr(strategy))
    values["strategy"] = Strategy(strategy)
    values["range_min"] = as_count("range_min", values["range_min"], "of at least 0", least=0)
    if values["range_max"] is not None:
        values["range_max"] = as_count("range_max", values["range_max"], "of at least 1, or None", least=1)
        check_range_max(values["range_min"], values["range_max"], values["num_negatives"])


def _check_apply(values: dict[str, Any]) -> None:
    """Rejects conditions on ``num_negatives`` if ``num_negatives`` is 0."""
    names = ("strategy", "range_min", "range_max", "absolute_margin", "relative_margin")
    ignored = [name for name in names if values[name] != getattr(MiningConditions, name)]
    if values["num_negatives"] == 0 and ignored:
        raise ArgumentError(
            ", ".join(ignored),
            problem=[
                *("expected only with ", Parameter("num_negatives"), " above 0, because hard and semi-hard negatives "),
                *("have windows of their own, got ", Parameter("num_negatives"), " = 0"),
            ],
        )


def _check_margin(values: dict[str, Any]) -> None:
    margin = values["margin"] = _within("margin", values["margin"], 0, 2)
    if margin is not None and values["num_semi_hard"] == 0:
        raise ArgumentError(
            "margin",
            ["only with ", Parameter("num_semi_hard"), " above 0, because it is the width of the semi-hard window"],
            margin,
            hint=[
                *("to keep a distance from the positive, use ", Parameter("absolute_margin"), " or "),
                Parameter("relative_margin"),
            ],
        )


def _within(name: str, value: Any, low: float, high: float) -> float | None:
    """A number from ``low`` to ``high``, or None; the bounds reject percentages (95 instead of 0.95)."""
    number = as_number(name, value)
    if number is not None and not low <= number <= high:
        raise ArgumentError(name, f"a number from {low} to {high}", value)
    return number


def _seed(seed: Any) -> int:
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer, got {seed!r}") from None
    if not 0 <= value < 2**64:
        raise ArgumentError("seed", "an integer from 0 to 2**64 - 1", value)
    return value
