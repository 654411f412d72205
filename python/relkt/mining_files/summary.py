"""What a run found, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from relkt.mining_files.tables import MinedPairs, OutputFormat


@dataclass(frozen=True, kw_only=True)
class MiningSummary:
    """What a run found.

    Attributes:
        queries: Distinct queries.
        passages: Distinct passages.
        pairs: Distinct pairs.
        repeated_pairs: How often a pair was given again.
        rows: Rows written.
        served: Queries with all the negatives asked for.
        partly_served: Queries with fewer, but some.
        unserved: Queries with none.
        negatives: Negatives, summed over the queries.
        positive_score: Mean score of the pairs.
        negative_score: Mean score of the negatives; NaN if there are none.
        excluded: Candidates passed over, summed over the queries, as their document or text is a positive's or the
            query's.
        too_similar: As they score above ``max_score`` or what a margin leaves.
        near_positive: As they are near-duplicates of a positive.
        range_min: As they are among the best ``range_min``.
        left_out: Pairs without a row in the output: in the format n-tuple those of queries that were not fully served,
            in triplet and labeled-list those of queries without negatives.
        resumed: Whether the run went on with the work of another.
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
            mined: What was found.
            skipped: Candidates passed over, by the names of the attributes.
            kind: What a row of the output is.
            rows: Rows written.
            resumed: Whether the run went on with the work of another.
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
