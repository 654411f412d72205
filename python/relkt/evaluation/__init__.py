"""How well a model retrieves: exact ranking, ir-measures, intervals."""

from relkt.evaluation.evaluate import evaluate, evaluate_embeddings, measure
from relkt.evaluation.ranking import Ranking, rank
from relkt.evaluation.result import METRICS, Average, Estimate, Report

__all__ = ["METRICS", "Average", "Estimate", "Ranking", "Report", "evaluate", "evaluate_embeddings", "measure", "rank"]
