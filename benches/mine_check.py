"""Checks of mined negatives: relkt against a computation in float64, and the peers against relkt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mine_data import Case, MiningData

SEED = 3
# Number of queries checked in float64, and number of passages per block.
SAMPLE, BLOCK = 64, 20_000
# Maximum rounding error of relkt's scores, and maximum error of a float32 sum of products.
ROUNDING, TOLERANCE = 2.0**-23, 2e-5


@dataclass(frozen=True)
class Found:
    """Results of relkt: (q, num) rows and scores; for a sample from a range, also the whole range."""

    rows: np.ndarray
    scores: np.ndarray
    ranked: tuple[np.ndarray, np.ndarray] | None = None


class Judge:
    """Checks results against the embeddings; raises SystemExit if a result is wrong."""

    def __init__(self, data: MiningData) -> None:
        self.queries = np.load(data.asked_file, mmap_mode="r")
        self.passages = np.load(data.passages_file, mmap_mode="r")
        self.positives = np.load(data.positives_file)
        self.positive_scores = np.einsum(
            "ij,ij->i", double(self.queries), double(self.passages[self.positives]), optimize=True
        )
        draw = np.random.default_rng(SEED)
        self.sample = np.sort(draw.permutation(data.queries)[:SAMPLE])
        asked = double(self.queries[self.sample])
        blocks = [asked @ double(self.passages[start : start + BLOCK]).T for start in range(0, data.rows, BLOCK)]
        self.sampled = np.concatenate(blocks, axis=1)

    def ranks(self) -> list[int]:
        """Ranks of the sampled queries' positives among all passages, from 1."""
        of_positive = self.positive_scores[self.sample]
        return sorted(((self.sampled > of_positive[:, None] + ROUNDING).sum(axis=1) + 1).tolist())

    def exact(self, case: Case, found: Found) -> None:
        """Checks relkt's rows and scores for the sampled queries against the definition, in float64."""
        limits = case.limits(self.positive_scores)
        for query, scores in zip(self.sample.tolist(), self.sampled, strict=True):
            candidates = np.delete(np.arange(len(scores)), self.positives[query])
            candidates = candidates[scores[candidates] <= limits[query]]
            ranked = candidates[np.argsort(-scores[candidates], kind="stable")[: case.ranked]]
            range_ = ranked[case.range_min :]
            rows = kept(found.rows[query])
            if found.ranked is None:
                self._best("relkt", query, range_[: case.num_negatives], rows, limits[query], ROUNDING, case)
            else:
                of_ranked = kept(found.ranked[0][query])
                self._best("relkt", query, ranked, of_ranked, limits[query], ROUNDING, case.all_ranked())
                self._drawn("relkt", query, range_, rows, ROUNDING)
            wanted, given = min(case.num_negatives, len(range_)), found.scores[query][: len(rows)]
            if len(rows) != wanted or np.abs(given - scores[rows]).max(initial=0) > ROUNDING:
                raise SystemExit(f"relkt: query {query}: {len(rows)} rows of {wanted}, with scores {given}")

    def same(self, peer: str, case: Case, found: Found, theirs: np.ndarray) -> float:
        """Checks a peer's rows for all queries or the first ones; returns the share of its rows that equal relkt's.

        The error of float32 sums must explain all differences. In a random sample, every row must be in the range.
        """
        limits = case.limits(self.positive_scores)
        if found.ranked is not None:
            # FlagEmbedding's ranks include the positive.
            first = case.range_min - peer.startswith("flag")
            ranges = found.ranked[0][: len(theirs), first:]
            inside = (theirs[:, :, None] == ranges[:, None]).any(axis=2) | (theirs < 0)
            ordered = np.sort(theirs, axis=1)
            twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
            for query in np.flatnonzero(~inside.all(axis=1) | twice.any(axis=1)).tolist():
                self._drawn(peer, query, kept(ranges[query]), kept(theirs[query]), TOLERANCE)
            return float(inside.all(axis=1).mean())
        equal = ((theirs == found.rows[: len(theirs)]) | (theirs < 0)).all(axis=1)
        for query in np.flatnonzero(~equal).tolist():
            self._best(peer, query, kept(found.rows[query]), kept(theirs[query]), limits[query], TOLERANCE, case)
        return float(equal.mean())

    def scores(self, query: int, rows: np.ndarray) -> np.ndarray:
        return double(self.passages[rows]) @ double(self.queries[query : query + 1])[0]

    def _best(
        self, peer: str, query: int, best: np.ndarray, rows: np.ndarray, limit: float, tolerance: float, case: Case
    ) -> None:
        """Checks that the rows are the first of the best, in order, except for scores that differ by the tolerance."""
        self._distinct(peer, query, rows)
        scores, of_best = self.scores(query, rows), self.scores(query, best)
        least = of_best.min() if len(best) == case.num_negatives else -np.inf
        at_limit = np.abs(scores - limit) <= tolerance
        wrong = {
            "above the limit": scores > limit + tolerance,
            "before a better one": np.append(np.diff(scores) > tolerance, False)[: len(rows)],
            "good enough, but not expected": ~np.isin(rows, best) & ~at_limit & (scores > least + tolerance),
        }
        for what, where in wrong.items():
            if where.any():
                raise SystemExit(f"{peer}: query {query}: row {rows[where][0]} with {scores[where][0]} is {what}")
        at_limit = np.abs(of_best - limit) <= tolerance
        left_out = ~np.isin(best, rows) & ~at_limit & (of_best > scores.min(initial=np.inf) + tolerance)
        if left_out.any():
            raise SystemExit(f"{peer}: query {query}: row {best[left_out][0]} with {of_best[left_out][0]} is missing")

    def _drawn(self, peer: str, query: int, range_: np.ndarray, rows: np.ndarray, tolerance: float) -> None:
        """Checks that the rows are distinct and in the range, except for scores that differ by the tolerance."""
        self._distinct(peer, query, rows)
        scores, allowed = self.scores(query, rows), self.scores(query, range_)
        above = scores > allowed.max(initial=-np.inf) + tolerance
        outside = above | (scores < allowed.min(initial=np.inf) - tolerance)
        if outside.any():
            raise SystemExit(f"{peer}: query {query}: row {rows[outside][0]} is not in its range")

    def _distinct(self, peer: str, query: int, rows: np.ndarray) -> None:
        if len(np.unique(rows)) < len(rows) or (rows == self.positives[query]).any():
            raise SystemExit(f"{peer}: query {query}: a row more than once, or the positive, in {rows.tolist()}")


def kept(rows: np.ndarray) -> np.ndarray:
    """Removes the padding (-1)."""
    return rows[rows >= 0]


def double(rows: np.ndarray) -> np.ndarray:
    """Unit rows in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def served(rows: np.ndarray) -> float:
    """Share of queries with all requested negatives."""
    return float((rows >= 0).all(axis=1).mean())
