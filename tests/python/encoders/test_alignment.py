"""Word alignment from parallel texts."""

from __future__ import annotations

import numpy as np
import pytest

from relkt.encoders.alignment import translation_table


def table(sources: list[list[int]], targets: list[list[int]], **options: int) -> dict[tuple[int, int], float]:
    f, e, t = translation_table(sources, targets, **options)
    return {(a, b): p for a, b, p in zip(f.tolist(), e.tolist(), t.tolist(), strict=True)}


def test_one_round_by_hand() -> None:
    # Pairs 10 -> 1 and (10, 20) -> (1, 2); each target may also come from the empty token. Initial shares: 1/2 each in
    # the first pair, 1/3 each in the second. Counts of 10: 1/2 + 1/3 for token 1, 1/3 for token 2; of 20: 1/3 and 1/3.
    found = table([[10], [10, 20]], [[1], [1, 2]], iterations=1)
    assert found == pytest.approx({(10, 1): 5 / 7, (10, 2): 2 / 7, (20, 1): 1 / 2, (20, 2): 1 / 2})


def test_words_that_occur_together_are_disambiguated() -> None:
    # "das haus", "das buch", "ein buch": das 1, haus 2, buch 3, ein 4.
    found = table([[1, 2], [1, 3], [4, 3]], [[11, 12], [11, 13], [14, 13]], iterations=50)
    for source in (1, 2, 3, 4):
        best = max((p, e) for (f, e), p in found.items() if f == source)
        assert best[1] == source + 10


def plainly(sources: list[list[int]], targets: list[list[int]], iterations: int) -> dict[tuple[int, int], float]:
    """Reference implementation with dictionaries and loops."""
    t = {(f, e): 1.0 for s, w in zip(sources, targets, strict=True) if s for f in (*s, -1) for e in w}
    for _ in range(iterations):
        counts = dict.fromkeys(t, 0.0)
        for s, w in zip(sources, targets, strict=True):
            for e in w if s else []:
                total = sum(t[f, e] for f in (*s, -1))
                for f in (*s, -1):
                    counts[f, e] += t[f, e] / total
        sums: dict[int, float] = {}
        for (f, _), count in counts.items():
            sums[f] = sums.get(f, 0.0) + count
        t = {(f, e): count / sums[f] for (f, e), count in counts.items()}
    return {key: p for key, p in t.items() if key[0] >= 0}


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_reference_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = [rng.integers(0, 9, rng.integers(0, 6)).tolist() for _ in range(12)]
    targets = [rng.integers(0, 7, rng.integers(0, 5)).tolist() for _ in range(12)]
    found = table(sources, targets, iterations=4)
    assert found == pytest.approx(plainly(sources, targets, 4))
    assert list(found) == sorted(found)
    for source in {f for f, _ in found}:
        assert sum(p for (f, _), p in found.items() if f == source) == pytest.approx(1)


def test_nothing_to_align() -> None:
    assert table([], []) == table([[], [3]], [[1], []]) == {}


def test_argument_errors() -> None:
    with pytest.raises(ValueError, match="targets: expected 2 texts, one per source, got 1"):
        translation_table([[1], [2]], [[1]])
    with pytest.raises(ValueError, match="iterations: expected at least 1, got 0"):
        translation_table([[1]], [[1]], iterations=0)
