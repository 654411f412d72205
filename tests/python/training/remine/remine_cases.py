"""Trainings for the tests of re-mining."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback, TrainerState
from typing_extensions import override

import relkt
from relkt.encoders import encode_passages, encode_queries
from relkt.training.remine import RemineCallback

CONDITIONS = {"num_negatives": 2, "relative_margin": 0.02}


class Spy(TrainerCallback):
    """Records the rows and the embeddings at the start of each epoch, and the random states around the mining."""

    def __init__(self, remine: RemineCallback, states: list[object]) -> None:
        self.remine, self.states = remine, states
        self.rows: list[list[dict[str, str]]] = []
        self.embedded: list[tuple[np.ndarray, np.ndarray]] = []

    @override
    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        self.states.append((torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()))  # noqa: NPY002
        self.states.append([module.training for module in model.modules()])
        self.rows.append(list(self.remine.dataset))
        anchors, passages = texts(self.remine.dataset)
        untouched = copy.deepcopy(model).eval()
        self.embedded.append((encode_queries(untouched, anchors), encode_passages(untouched, passages)))


def texts(dataset: Dataset) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(dataset["anchor"])), list(dict.fromkeys(dataset["positive"]))


def expected(rows, embedded, **conditions) -> list[list[str]]:
    """The negatives of each row from a call of relkt.mine."""
    anchors, passages = (list(dict.fromkeys(row[name] for row in rows)) for name in ("anchor", "positive"))
    positives = [[passages.index(row["positive"]) for row in rows if row["anchor"] == anchor] for anchor in anchors]
    mined = relkt.mine(*embedded, positives, **conditions)
    return [[passages[i] for i in mined.indices[anchors.index(row["anchor"])]] for row in rows]


def train(
    folder: Path,
    model: SentenceTransformer,
    remine: RemineCallback | None,
    dataset=None,
    loss=MultipleNegativesRankingLoss,
    callbacks=(),
    resume: str | None = None,
    eval_dataset=None,
    **arguments,
) -> SentenceTransformerTrainer:
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-3,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 3,
    }
    args = SentenceTransformerTrainingArguments(output_dir=str(folder), **{**settings, **arguments})
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset=remine.dataset if dataset is None else dataset,
        eval_dataset=eval_dataset,
        loss=loss(model),
        callbacks=[*callbacks] if remine is None else [*callbacks, remine],
    )
    model.model_card_data.generate_widget_examples = False
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], same: bool = True) -> None:
    assert all(torch.equal(a[name], b[name]) for name in a) is same


def _arguments(folder: Path) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True)


def _state() -> TrainerState:
    state = TrainerState()
    state.epoch, state.global_step = 0.0, 0
    return state
