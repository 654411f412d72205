"""The tables of results."""

import json

import numpy as np

from relkt.cli.tables import gains_table
from relkt.data import Level, Passage, Query, RetrievalData
from relkt.evaluation import evaluate_embeddings
from relkt.training import TrainConfig


def test_the_title_of_the_gains_has_the_number_of_passages(tmp_path):

    passages = tuple(Passage(f"p{row}", "text", "d") for row in range(7))
    data = RetrievalData("toy", passages, (Query("q", "?", "en", "q"),), {"q": {"p0": 1}})
    rows = np.ones((7, 2), np.float32)
    report = evaluate_embeddings(rows[:1], rows, data, trained_languages=["en"], num_resamples=0)
    config = TrainConfig.preset("demo")
    results = {name: {"passage": report.to_dict()} for name in ("before", config.stages[-1].value)}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert gains_table(tmp_path / "results.json", Level.PASSAGE).title.endswith("first passage of 7)")
