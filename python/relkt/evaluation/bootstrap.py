"""Percentile bootstrap over questions, and a paired bootstrap test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WEIGHTS_AT_ONCE = 4_000_000  # float64 values: 32 MB
_ROUNDING = 1e-12


def resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], *, num_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Means over questions drawn with replacement, each with all its translations.

    The difficulty of a question is similar in all languages, so drawing single queries would make intervals of averages
    over languages too narrow.

    Args:
        sums: (m, languages, questions), for m metrics: sum of a question's values in a language, 0 without values.
        counts: (languages, questions): number of these values.
        num_resamples: Number of resamples.
        seed: Seed of the draws; the same seed draws the same questions, for any sums and counts.

    Returns:
        (m, num_resamples, languages) float64; NaN where a resample has no question in a language.
    """
    num_measures, languages, questions = sums.shape
    generator = np.random.default_rng(seed)
    means = np.empty((num_measures, num_resamples, languages))
    step = max(1, _WEIGHTS_AT_ONCE // questions)
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        # Number of draws of each question. The generator draws sequentially, so the draws do not depend on the step.
        draws = generator.integers(questions, size=(size, questions)) + questions * np.arange(size)[:, None]
        weights = np.bincount(draws.ravel(), minlength=size * questions).reshape(size, questions).astype(np.float64)
        totals = weights @ counts.T  # (size, languages)
        with np.errstate(invalid="ignore"):
            means[:, start : start + size] = (weights @ sums.transpose(0, 2, 1)) / totals
    return means


def percentile_interval(resampled: NDArray[np.float64], *, confidence: float = 0.95) -> NDArray[np.float64]:
    """Interval that contains a central share of the resampled values.

    Args:
        resampled: (m, num_resamples), the statistics of m metrics; a resample with a NaN is left out.
        confidence: Share of the resamples inside the interval.

    Returns:
        (m, 2) float64: the lower and the upper end; NaN if every resample was left out.
    """
    complete = ~np.isnan(resampled).any(axis=0)
    if not complete.any():
        return np.full((len(resampled), 2), np.nan)
    tail = (1 - confidence) / 2
    return np.quantile(resampled[:, complete], [tail, 1 - tail], axis=1).T


def bootstrap_macro_mean(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    num_resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> NDArray[np.float64]:
    """Interval of a macro-mean: the mean over languages of each language's mean over questions.

    A resample in which a language has no question is left out.

    Args:
        sums: As for :func:`resampled_means`.
        counts: As for :func:`resampled_means`.
        num_resamples: Number of resamples.
        seed: Seed of the draws.
        confidence: Share of the resamples inside the interval.

    Returns:
        (m, 2) float64: the lower and the upper end, percentiles of the resampled means; NaN if every resample was left
        out.

    Reference:
        Efron (1979); Sakai (2006) on the bootstrap in retrieval evaluation.
    """
    means = resampled_means(sums, counts, num_resamples=num_resamples, seed=seed).mean(axis=2)
    return percentile_interval(means, confidence=confidence)


def paired_bootstrap_p(
    differences: NDArray[np.float64], resampled_differences: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Two-sided p-values of the hypothesis that two systems are equally good.

    Let d be the observed difference and d* the resampled differences. Under the hypothesis, d would vary around 0 in
    the same way as the d* vary around d. So p is the share of the d* that are at least as far from d as d is from 0; d
    itself also counts::

        p = (1 + #{|d* - d| >= |d|}) / (1 + #{d*})

    Args:
        differences: (m,), for m metrics: value of one system minus value of the other.
        resampled_differences: (m, num_resamples), the same differences on resampled questions; NaN for a resample to
            ignore. Both systems need the same questions (:func:`resampled_means` with the same seed).

    Returns:
        (m,) float64 in (0, 1]; NaN if all resamples are ignored.

    Reference:
        Efron and Tibshirani (1993), chapter 16, and Sakai (2006) for the shift of the bootstrap distribution (relkt
        compares plain differences, not divided by their standard errors); Davison and Hinkley (1997), chapter 4, for
        counting the observed difference.
    """
    distances = np.abs(resampled_differences - differences[:, None])
    # Differences that are equal except for rounding count as equal.
    further = (distances >= np.abs(differences)[:, None] - _ROUNDING).sum(axis=1)
    counted = (~np.isnan(distances)).sum(axis=1)
    return np.where(counted > 0, (1 + further) / (1 + counted), np.nan)
