"""Rescoring with a cross-encoder."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hard_negative_cases import PLANE, PLANE_PAIRS, PairScorer, PlaneModel, relkt_rows


def test_the_cross_encoder_scores_each_candidate_once_and_only_with_a_condition() -> None:
    scorer = PairScorer()
    relkt_rows(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer)
    assert scorer.scored == []
    relkt_rows(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer, min_score=-1)
    assert sorted(scorer.scored) == [("q", "p"), ("q", "s"), ("r", "p"), ("r", "s")]


@pytest.mark.parametrize("scores", [torch.zeros(4, 2), torch.tensor([0.0, 0.0, np.nan, 0.0])])
def test_invalid_scores_of_a_cross_encoder(scores: torch.Tensor) -> None:
    scorer = PairScorer()
    scorer.predict = Mock(return_value=scores)
    with pytest.raises(ValueError, match="cross_encoder: expected"):
        relkt_rows(PLANE_PAIRS, PlaneModel(PLANE), num_negatives=1, cross_encoder=scorer, min_score=-1)
