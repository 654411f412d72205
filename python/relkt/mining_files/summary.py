"""Numbers of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from relkt.mining_files.tables import MinedPairs, OutputFormat


@dataclass(frozen=True, kw_only=True)
class MiningSummary:
    """Numbers of a finished run.

    Attributes:
        queries: Number of distinct queries.
        passages: Number of distinct passages.
        pairs: Number of distinct pairs.
        repeated_pairs: Number of repeated pairs in the input.
        rows: Number of rows written.
        served: Number of queries with all negatives requested.
        partly_served: Number of queries with fewer negatives.
        unserved: Number of queries without negatives.
        negatives: Number of negatives, summed over the queries.
        positive_score: Mean score of the pairs.
        negative_score: Mean score of the negatives; NaN without negatives.
        excluded: Number of passages skipped because of a positive's document or text, or the query's text, summed over
            the queries.
        too_similar: Number of passages skipped because of ``max_score`` or a margin.
        near_positive: Number of passages skipped as near-duplicates of a positive.
        range_min: Number of candidates skipped because of ``range_min``.
        left_out: Number of pairs without a row in the output: for n-tuple, pairs whose query has fewer negatives than
            requested; for triplet and labeled-list, pairs whose query has no negatives.
        resumed: True if the run resumed the work of an earlier run.
    """

    queries: int
    passages: int
    pairs: int
    repeated_pairs: int
    rows: int
    served: int
    partly_served: int
    unserved: int
    negatives: int
    positive_score: float
    negative_score: float
    excluded: int
    too_similar: int
    near_positive: int
    range_min: int
    left_out: int
    resumed: bool

    @classmethod
    def of(
        cls, mined: MinedPairs, skipped: Mapping[str, int], kind: OutputFormat, *, rows: int, resumed: bool
    ) -> MiningSummary:
        """Counts and means.

        Args:
            mined: The negatives.
            skipped: Number of skipped passages, by the names of the attributes.
            kind: Format of the output.
            rows: Number of rows written.
            resumed: True if the run resumed the work of an earlier run.
        """
        pairs = mined.pairs
        counts = (mined.negatives >= 0).sum(axis=1)
        wanted = mined.negatives.shape[1]
        needed = {OutputFormat.N_TUPLE: wanted, OutputFormat.LABELED_PAIR: 0}.get(kind, 1)
        negatives = int(counts.sum())
        return cls(
            queries=len(pairs.queries),
            passages=len(pairs.passages),
            pairs=len(pairs.pairs),
            repeated_pairs=pairs.repeated,
            rows=rows,
            served=int((counts == wanted).sum()),
            partly_served=int(((counts > 0) & (counts < wanted)).sum()),
            unserved=int((counts == 0).sum()),
            negatives=negatives,
            positive_score=float(mined.positive_scores.mean(dtype=np.float64)),
            negative_score=float(np.nanmean(mined.scores, dtype=np.float64)) if negatives else float("nan"),
            left_out=int((counts[pairs.pairs[:, 0]] < needed).sum()),
            resumed=resumed,
            **skipped,
        )
