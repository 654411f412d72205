"""Percentile bootstrap over questions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WEIGHTS_AT_ONCE = 4_000_000  # of float64: 32 MB


def bootstrap_macro_mean(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    num_resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> NDArray[np.float64]:
    """Interval of the mean over languages of the mean over questions.

    Questions are drawn with replacement, with all their translations: languages share the difficulty of a question, so
    drawing queries one by one would make an average over languages look more certain than it is. A resample in which a
    language has no question is left out.

    Args:
        sums: (m, languages, questions), for m measures: sum of a question's values in a language, 0 if it has none.
        counts: (languages, questions): the number of these values.
        num_resamples: Resamples.
        seed: Of the resampling; the same seed draws the same questions.
        confidence: Share of the resamples inside the interval.

    Returns:
        (m, 2) float64: the lower and the upper end, percentiles of the resampled means; NaN if every resample was left
        out.

    Reference:
        Efron (1979); Sakai (2006) on the bootstrap in retrieval evaluation.
    """
    num_measures, _, questions = sums.shape
    generator = np.random.default_rng(seed)
    means = np.empty((num_measures, num_resamples))
    step = max(1, _WEIGHTS_AT_ONCE // questions)
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        # How often each question was drawn. The draws come one after the other: they do not depend on the step.
        draws = generator.integers(questions, size=(size, questions)) + questions * np.arange(size)[:, None]
        weights = np.bincount(draws.ravel(), minlength=size * questions).reshape(size, questions).astype(np.float64)
        totals = weights @ counts.T  # (size, languages)
        with np.errstate(invalid="ignore"):
            means[:, start : start + size] = ((weights @ sums.transpose(0, 2, 1)) / totals).mean(axis=2)
    complete = ~np.isnan(means).any(axis=0)
    if not complete.any():
        return np.full((num_measures, 2), np.nan)
    tail = (1 - confidence) / 2
    return np.quantile(means[:, complete], [tail, 1 - tail], axis=1).T
