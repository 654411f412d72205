"""Checks of the arguments of ``mine_hard_negatives``."""

from __future__ import annotations

import logging
from typing import Any

from datasets import Dataset

from relkt.arrays import as_count
from relkt.errors import ArgumentError, Parameter
from relkt.mining.conditions import as_number, check_range_max
from relkt.mining.hard_negatives.formats import FORMATS, OutputFormat

logger = logging.getLogger(__name__)


def column_names(dataset: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    """The columns of anchors and positives; an unknown name falls back to the default, with a warning."""
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset: expected a datasets.Dataset, got {type(dataset).__name__}")
    if len(dataset) == 0:
        raise ValueError("dataset: expected at least one row, got none")
    columns = dataset.column_names
    if len(columns) < 2:
        raise ValueError(f"dataset: expected at least two columns, anchors and positives, got {columns}")
    names = []
    for argument, name, default in (
        ("anchor_column_name", anchor, columns[0]),
        ("positive_column_name", positive, columns[1]),
    ):
        if name and name not in columns:
            logger.warning("%s: the dataset has no column %r; using %r of %s.", argument, name, default, columns)
        names.append(name if name and name in columns else default)
    if names[0] == names[1]:
        raise ValueError(
            f"dataset: expected different columns for anchors and positives, got {names[0]!r} for both; "
            "give anchor_column_name and positive_column_name"
        )
    return names[0], names[1]


def deprecated_margin(margin: float) -> float:
    """Returns the deprecated ``margin`` for use as ``absolute_margin``, and warns."""
    logger.warning(
        "The `margin` parameter is deprecated. Use `absolute_margin` and/or `relative_margin` instead. "
        "Setting `absolute_margin` to `%s`.",
        margin,
    )
    return margin


def checked_limits(**limits: Any) -> dict[str, float | None]:
    """The limits of scores as numbers, or None."""
    return {name: as_number(name, limit) for name, limit in limits.items()}


def warn_about_positives() -> None:
    """Warns that conditions also apply to positives."""
    logger.warning(
        "When using `include_positives=True`, `range_min`, `range_max`, `max_score`, `min_score`, "
        "`absolute_margin`, `relative_margin` or `sampling_strategy` other than the defaults may still discard "
        "the positives."
    )


def output_options(
    output_format: str, output_scores: bool, as_triplets: bool | None, include_positives: bool
) -> tuple[OutputFormat, bool]:
    """The output format, and whether to output scores; warns about each deprecated or overridden option."""
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
        logger.warning(
            "The `as_triplets` parameter is deprecated. Use `output_format` instead. Setting `output_format` to `%s`.",
            output_format,
        )
    if include_positives and output_format != "n-tuple":
        output_format = "n-tuple"
        logger.warning(
            'When using `include_positives=True`, `output_format` is set to `"n-tuple"`, which keeps the ranking.'
        )
    if output_format == "n-tuple-scores":
        output_format, output_scores = "n-tuple", True
        logger.warning(
            '`output_format="n-tuple-scores"` is deprecated. Use `output_format="n-tuple"` with `output_scores=True`.'
        )
    for known in FORMATS:
        if output_format == known:
            return known, bool(output_scores)
    raise ArgumentError("output_format", f"one of {', '.join(map(repr, FORMATS))}", repr(output_format))


def checked_range(
    sampling_strategy: str, num_negatives: Any, range_min: Any, range_max: Any
) -> tuple[int, int, int | None]:
    """``num_negatives``, ``range_min`` and ``range_max`` as integers."""
    if sampling_strategy not in ("top", "random"):
        raise ArgumentError("sampling_strategy", "'top' or 'random'", repr(sampling_strategy))
    num_negatives = as_count("num_negatives", num_negatives, "of at least 1", least=1)
    range_min = as_count("range_min", range_min, "of at least 0", least=0)
    if range_max is not None:
        range_max = as_count("range_max", range_max, "of at least 1", least=1)
        check_range_max(range_min, range_max, num_negatives)
    return num_negatives, range_min, range_max


def check_scores(low: float | None, high: float | None) -> None:
    """Checks that ``min_score`` is not above ``max_score``."""
    if low is not None and high is not None and low > high:
        raise ArgumentError("min_score", ["at most ", Parameter("max_score"), f" = {high}"], low)


def check_new_names(names: tuple[str, str], new: list[str]) -> None:
    """Checks that no new column has the name of an existing one."""
    for name in names:
        if name in new:
            raise ValueError(f"dataset: the result would have two columns {name!r}; rename the dataset's column")


def check_similarity(model: Any) -> None:
    """Checks that the model's similarity is cosine or dot, which are equal for normalised embeddings."""
    similarity = str(getattr(model, "similarity_fn_name", None) or "cosine")
    if similarity not in ("cosine", "dot"):
        raise ValueError(
            f"model: expected similarity_fn_name 'cosine' or 'dot', got {similarity!r}: the search is by cosine"
        )
