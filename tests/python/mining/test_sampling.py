"""Random samples of candidates."""

import numpy as np

from relkt.mining.sampling import draw


def test_a_draw_is_uniform():
    counts = np.full(60_000, 5)
    drawn = draw(counts, 8, 2, seed=1, first_query=0)
    assert ((drawn >= 0) & (drawn < 5)).all()
    assert (drawn[:, 0] < drawn[:, 1]).all()
    pairs = np.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)
    pairs = pairs[pairs > 0]
    assert len(pairs) == 10
    # Chi-square with 9 degrees of freedom: above 27.9 once in a thousand.
    assert ((pairs - 6_000) ** 2 / 6_000).sum() < 27.9


def test_a_draw_depends_on_seed_and_query_only():
    drawn = draw(np.array([30] * 40), 30, 5, seed=2, first_query=0)
    assert np.array_equal(draw(np.array([30] * 10), 64, 5, seed=2, first_query=7), drawn[7:17])
    assert not np.array_equal(draw(np.array([30] * 40), 30, 5, seed=3, first_query=0), drawn)
    assert draw(np.array([0, 1, 3]), 3, 2, seed=0, first_query=0).min(axis=1).tolist()[:2] == [-1, -1]
    assert draw(np.array([2]), 2, 4, seed=0, first_query=0).tolist() == [[0, 1, -1, -1]]
