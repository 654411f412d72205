"""Held-out documents reach no stage: a run on poisoned documents is the same bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import Passage, Query, RetrievalData, Split
from relkt.encoders import load_encoder
from relkt.training import TrainConfig, train
from relkt.training.progress import Progress

pytestmark = pytest.mark.slow

HELD_OUT = {"d5": Split.DEV, "d6": Split.TEST, "d7": Split.TEST}


@pytest.fixture(scope="module")
def unseen_data(data_of: Callable[..., RetrievalData]) -> RetrievalData:
    """The tiny data set with one document for dev and two for test."""
    data = data_of()
    queries = tuple(replace(q, split=HELD_OUT.get(f"d{q.id[1:].split('.')[0]}", Split.TRAIN)) for q in data.queries)
    return replace(data, queries=queries, held_out=HELD_OUT)


def poisoned(data: RetrievalData, *splits: Split) -> RetrievalData:
    """The data set with other words in every text of the documents held out for some splits."""
    documents = {document for document, split in data.held_out.items() if split in splits}
    of_passage = {p.id: p.document for p in data.passages}

    def poison(text: str) -> str:
        return " ".join(f"poison{word[-2:]} en0a" for word in text.split())

    def passage(p: Passage) -> Passage:
        return replace(p, text=poison(p.text)) if p.document in documents else p

    def query(q: Query) -> Query:
        return replace(q, text=poison(q.text)) if q.split in splits else q

    return replace(
        data,
        passages=tuple(map(passage, data.passages)),
        queries=tuple(map(query, data.queries)),
        translations={
            language: {p: poison(text) if of_passage[p] in documents else text for p, text in texts.items()}
            for language, texts in data.translations.items()
        },
    )


def run(model: SentenceTransformer, data: RetrievalData, config: TrainConfig, output: Path) -> dict[str, torch.Tensor]:
    train(model, data, output_dir=output, config=config, progress=Progress())
    return {name: value.clone() for name, value in model.state_dict().items()}


def metrics(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_poisoned_test_documents_change_nothing_in_training(
    model_of: Callable[..., SentenceTransformer], unseen_data: RetrievalData, short_config: TrainConfig, tmp_path: Path
) -> None:
    clean = run(model_of(), unseen_data, short_config, tmp_path / "clean")
    dirty = run(model_of(), poisoned(unseen_data, Split.TEST), short_config, tmp_path / "dirty")
    assert_equal(clean, dirty)
    assert metrics(tmp_path / "clean") == metrics(tmp_path / "dirty")
    assert (tmp_path / "clean" / "results.json").read_bytes() != (tmp_path / "dirty" / "results.json").read_bytes()


def test_the_poison_would_show_with_known_documents(
    model_of: Callable[..., SentenceTransformer], unseen_data: RetrievalData, short_config: TrainConfig, tmp_path: Path
) -> None:
    known = replace(unseen_data, held_out={})
    toxic = replace(poisoned(unseen_data, Split.TEST), held_out={})
    clean = run(model_of(), known, short_config, tmp_path / "clean")
    dirty = run(model_of(), toxic, short_config, tmp_path / "dirty")
    assert any(not torch.equal(value, dirty[name]) for name, value in clean.items())


@pytest.mark.parametrize("stage", ["warmup", "teacher", "contrastive", "distillation", "transfer"])
def test_poisoned_dev_documents_reach_no_stage(
    stage: str,
    model_of: Callable[..., SentenceTransformer],
    unseen_data: RetrievalData,
    short_config: TrainConfig,
    tmp_path: Path,
) -> None:
    """Dev texts select a checkpoint, so losses of the steps are compared, not the weights that dev chose."""
    table = short_config.to_dict() | {"stages": [stage], "logging_steps": 1}
    table[stage] |= {"halve_lr_every": 0, "patience": 0}  # both follow dev scores
    config = TrainConfig.from_dict(table)
    poison = poisoned(unseen_data, Split.DEV, Split.TEST)
    run(model_of(), unseen_data, config, tmp_path / "clean")
    run(model_of(), poison, config, tmp_path / "dirty")
    losses = [[row["loss"] for row in metrics(tmp_path / name) if "loss" in row] for name in ("clean", "dirty")]
    assert losses[0]
    assert losses[0] == losses[1]


def test_poisoned_documents_teach_no_pieces(tmp_path: Path) -> None:
    passages = tuple(Passage(f"p{d}", f"ice melts {d}", f"d{d}") for d in range(3))
    splits = (Split.TRAIN, Split.DEV, Split.TEST)
    queries = tuple(
        Query(f"q{d}-{code}", f"what melts {code} {d}", code, f"q{d}", split)
        for d, split in enumerate(splits)
        for code in ("en", "el")
    )
    data = RetrievalData(
        name="toy",
        passages=passages,
        queries=queries,
        qrels={q.id: {f"p{q.id[1]}": 1} for q in queries},
        translations={"el": {f"p{d}": f"ο πάγος λιώνει {d}" for d in range(3)}},
        held_out={"d1": Split.DEV, "d2": Split.TEST},
    )
    config = TrainConfig.from_dict({"languages": ["el"], "stages": ["vocabulary"], "vocabulary": {"num_pieces": 60}})
    clean = run(load_encoder("muse", device="cpu"), data, config, tmp_path / "clean")
    dirty = run(load_encoder("muse", device="cpu"), poisoned(data, Split.DEV, Split.TEST), config, tmp_path / "dirty")
    assert_equal(clean, dirty)
