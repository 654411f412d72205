"""Comparisons for the tests of ``relkt.mine``."""

import numpy as np

FIELDS = (
    "indices",
    "scores",
    "counts",
    "hard_indices",
    "hard_scores",
    "semi_hard_indices",
    "semi_hard_scores",
    "positive_scores",
)


REASONS = ("excluded", "too_similar", "near_positive", "range_min")


def assert_same(a, b):
    for name in FIELDS:
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan="scores" in name), name
    for reason in REASONS:
        assert np.array_equal(getattr(a.skipped, reason), getattr(b.skipped, reason)), reason


ROWS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
