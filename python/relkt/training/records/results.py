"""Test results of the model before the run and after each stage, as JSON, tables and plots."""

from __future__ import annotations

import json
import logging
from typing import Any

from sentence_transformers import SentenceTransformer

from relkt.data.types import Level, RetrievalData, Split
from relkt.evaluation import Report, evaluate_embeddings
from relkt.report import RESULT_NAMES, plot_languages, plot_learning_curve, results_table
from relkt.storage import atomic_write
from relkt.training.distributed.encoding import encode_passages, encode_queries
from relkt.training.distributed.processes import from_rank_0, on_rank_0
from relkt.training.records.run_directory import RunDirectory

logger = logging.getLogger(__name__)

BEFORE = "before"
"""Name under which the results of the model before training are stored."""

_TABLES = ("P@1", "MRR@10")


def measure_test(
    model: SentenceTransformer, data: RetrievalData, *, trained_languages: tuple[str, ...], batch_size: int
) -> dict[str, Any]:
    """Evaluate the test split at every level; each text is encoded once. Every process of a job must call this.

    Args:
        model: The model.
        data: The data set.
        trained_languages: The training languages.
        batch_size: Texts encoded at once.

    Returns:
        Level -> :meth:`relkt.evaluation.Report.to_dict`; empty if the data set has no test question.
    """
    test = data.select(split=Split.TEST)
    if not test.queries:
        return {}
    queries = encode_queries(model, [q.text for q in test.queries], batch_size=batch_size)
    embedded = {
        level: encode_passages(model, list(data.candidates(level).texts), batch_size=batch_size)
        for level in (Level.PASSAGE, Level.DOCUMENT)
    }
    embedded[Level.BEST_PASSAGE] = embedded[Level.PASSAGE]
    trained = tuple(language for language in trained_languages if language in test.languages)
    return from_rank_0(
        lambda: {
            level.value: evaluate_embeddings(
                queries, passages, test, split=Split.TEST, level=level, trained_languages=trained
            ).to_dict()
            for level, passages in embedded.items()
        }
    )


@on_rank_0
def write_results(run: RunDirectory) -> None:
    """Write ``results.json``, ``results.md`` and ``plots/`` of a finished run from its records.

    Without test questions, there is only the learning curve.
    """
    plot_learning_curve(run.metrics_path, run.path / "plots" / "learning_curve")
    results = read_results(run)
    names = list(results)
    if not results[BEFORE]:
        logger.info("no results table, because the data set has no test question")
        return
    levels = [Level(level) for level in results[BEFORE]]
    reports = {level: {name: Report.from_dict(results[name][level.value]) for name in names} for level in levels}
    tables = [
        results_table({RESULT_NAMES[name]: report for name, report in reports[level].items()}, metric=metric)
        for metric in _TABLES
        for level in levels
    ]
    atomic_write(run.path / "results.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
    atomic_write(run.path / "results.md", "\n".join(tables))
    shown = reports[run.config.level]
    plot_languages(shown[BEFORE], shown[names[-1]], run.path / "plots" / "languages")


def read_results(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """The test results before the run and after each of its stages; all stages must be finished."""
    records = {name: run.read_record(name) for name in (BEFORE, *(stage.value for stage in run.config.stages))}
    return {name: record["results"] for name, record in records.items() if record is not None}
