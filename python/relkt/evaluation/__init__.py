"""Evaluation of retrieval: exact ranking, metrics by ir-measures, bootstrap intervals."""

from relkt.evaluation.evaluate import evaluate, evaluate_embeddings, measure
from relkt.evaluation.full_ranking import average_precision
from relkt.evaluation.ranking import Ranker, Ranking, rank
from relkt.evaluation.result import MEAN_AVERAGE_PRECISION, METRICS, Average, Estimate, Report

__all__ = [
    "MEAN_AVERAGE_PRECISION",
    "METRICS",
    "Average",
    "Estimate",
    "Ranker",
    "Ranking",
    "Report",
    "average_precision",
    "evaluate",
    "evaluate_embeddings",
    "measure",
    "rank",
]
