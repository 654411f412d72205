"""Bootstrap intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from relkt.data import RetrievalData
from relkt.evaluation import (
    Estimate,
    evaluate_embeddings,
)
from relkt.evaluation.bootstrap import bootstrap_macro_mean, paired_bootstrap_p, resampled_means

Rows = NDArray[np.float32]


def test_the_interval_of_a_share_is_binomial() -> None:
    # 200 questions, 60 % correct: the bootstrap of a mean of zeros and ones is binomial.
    sums = np.zeros((1, 1, 200))
    sums[0, 0, :120] = 1
    low, high = bootstrap_macro_mean(sums, np.ones((1, 200)), num_resamples=4000, seed=0)[0]
    half = 1.96 * math.sqrt(0.6 * 0.4 / 200)
    assert low == pytest.approx(0.6 - half, abs=0.01)
    assert high == pytest.approx(0.6 + half, abs=0.01)


def test_translations_are_resampled_together() -> None:
    # Four languages with equal outcomes for each question: the same interval as for one language.
    rng = np.random.default_rng(3)
    one = rng.integers(0, 2, 100).astype(np.float64)
    single = bootstrap_macro_mean(one[None, None], np.ones((1, 100)), num_resamples=500, seed=1)
    four = bootstrap_macro_mean(np.tile(one, (1, 4, 1)), np.ones((4, 100)), num_resamples=500, seed=1)
    np.testing.assert_allclose(four, single)
    # Four languages with different questions give four times as much evidence.
    apart = np.zeros((1, 4, 400))
    counts = np.zeros((4, 400))
    for language in range(4):
        apart[0, language, language * 100 : (language + 1) * 100] = one
        counts[language, language * 100 : (language + 1) * 100] = 1
    independent = bootstrap_macro_mean(apart, counts, num_resamples=2000, seed=1)
    assert np.ptp(independent) == pytest.approx(np.ptp(single) / 2, rel=0.15)


def test_a_resample_without_a_language_is_left_out(
    circle: Callable[..., Rows], data_set: Callable[..., RetrievalData]
) -> None:
    # Twelve languages with one question each: hardly any resample has all of them.
    values = np.eye(12)[None] * 0.5
    assert np.isnan(bootstrap_macro_mean(values, np.eye(12), num_resamples=20, seed=0)).all()
    two = bootstrap_macro_mean(np.eye(2)[None] * [[0.2], [0.6]], np.eye(2), num_resamples=200, seed=0)
    np.testing.assert_allclose(two, [[0.4, 0.4]])
    data = data_set(["a", "b"], [[0]] * 12, [f"l{i}" for i in range(12)])
    report = evaluate_embeddings(circle(*[0] * 12), circle(1, 2), data, num_resamples=20)
    assert report.average("P@1") == Estimate(1.0, None)
    assert report.estimate("P@1", "l0") == Estimate(1.0, (1.0, 1.0))


def test_p_values_by_hand() -> None:
    # |d* - d| is 0, .5, .5 and .6; three of the four are at least |d| = .5. The fifth resample is ignored.
    resampled = np.array([[0.5, 1.0, 0.0, -0.1, np.nan]])
    assert paired_bootstrap_p(np.array([0.5]), resampled) == pytest.approx([(1 + 3) / (1 + 4)])
    # The sign of a difference does not matter.
    assert paired_bootstrap_p(np.array([-0.5]), -resampled) == pytest.approx([0.8])
    # The same difference for every question: the smallest p for this number of resamples.
    assert paired_bootstrap_p(np.array([0.2]), np.full((1, 99), 0.1 + 0.1)) == pytest.approx([0.01])
    # No difference: p is 1.
    assert paired_bootstrap_p(np.array([0.0]), np.zeros((1, 99))) == pytest.approx([1.0])
    # Values that differ only by rounding count as equal.
    assert paired_bootstrap_p(np.array([0.3]), np.array([[0.1 + 0.2 + 0.3]])) == pytest.approx([1.0])
    assert np.isnan(paired_bootstrap_p(np.array([0.3]), np.full((1, 5), np.nan))).all()


def test_a_paired_test_of_two_questions() -> None:
    # One system answers both questions, the other only the second, so d = .5. The four equally likely resamples
    # have d* = 1, .5, .5 and 0; half of them are at least .5 from d.
    resampled = resampled_means(np.array([[[1.0, 0.0]]]), np.ones((1, 2)), num_resamples=20_000, seed=0)[:, :, 0]
    assert sorted(set(resampled[0].tolist())) == [0.0, 0.5, 1.0]
    assert paired_bootstrap_p(np.array([0.5]), resampled)[0] == pytest.approx(0.5, abs=0.01)


def test_p_values_are_uniform_without_a_difference() -> None:
    # Differences drawn from -1, 0 and 1 with mean 0: a correct test rejects at level p in a share p of the data sets.
    rng = np.random.default_rng(0)
    differences = rng.integers(-1, 2, (400, 1, 200)).astype(np.float64)
    resampled = resampled_means(differences, np.ones((1, 200)), num_resamples=300, seed=1)[:, :, 0]
    p_values = paired_bootstrap_p(differences.mean(axis=(1, 2)), resampled)
    for level in (0.1, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.05)


def test_the_same_questions_are_drawn_for_any_values() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 3, 1, 30))
    counts = np.ones((1, 30))
    together = resampled_means(first - second, counts, num_resamples=50, seed=2)
    apart = [resampled_means(values, counts, num_resamples=50, seed=2) for values in (first, second)]
    np.testing.assert_allclose(together, apart[0] - apart[1], atol=1e-12)


def test_intervals_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sums = rng.random((2, 3, 50))
    at_once = bootstrap_macro_mean(sums, np.ones((3, 50)), num_resamples=300, seed=7)
    monkeypatch.setattr("relkt.evaluation.bootstrap._WEIGHTS_AT_ONCE", 333)
    np.testing.assert_allclose(bootstrap_macro_mean(sums, np.ones((3, 50)), num_resamples=300, seed=7), at_once)
