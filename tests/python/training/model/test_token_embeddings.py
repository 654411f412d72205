"""Training of token embeddings: limited to those of the texts, or frozen."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.encoders import MuseEncoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.piece_embedding import PieceEmbedding
from relkt.training import DevScore, Progress, Stage, TrainConfig, train
from relkt.training.loop import stage_runner
from relkt.training.model.token_embeddings import frozen_embeddings, limited_embeddings

CONFIG = {
    "logging_steps": 2,
    "stages": ["warmup", "transfer"],
    "warmup": {"epochs": 1, "learning_rate": 1e-2, "evaluations_per_epoch": 3, "batch_size": 32},
    "transfer": {"epochs": 1, "learning_rate": 1e-2, "evaluations_per_epoch": 2},
}


@pytest.fixture(scope="module")
def published() -> MuseEncoder:
    return MuseEncoder.from_package()


def small_muse(published: MuseEncoder) -> SentenceTransformer:
    torch.manual_seed(0)
    encoder = MuseEncoder(published.tokenizer, MuseConfig(embedding_dim=8, ngram_dim=4, hidden_dim=8, output_dim=8))
    encoder.network.reset_parameters()
    return SentenceTransformer(modules=[encoder], device="cpu")


def table(model: SentenceTransformer) -> PieceEmbedding:
    return next(m for m in model.modules() if isinstance(m, PieceEmbedding))


@pytest.mark.slow
def test_only_tokens_of_the_texts_are_trained_and_all_tokens_afterwards(published: MuseEncoder) -> None:
    model = small_muse(published)
    with limited_embeddings(model, ["two words", "three more words"]):
        active = table(model).active_rows
        assert active is not None
        assert set(active.tolist()) == set(
            model.preprocess(["two words", "three more words"])["input_ids"].flatten().tolist()
        )
        assert not table(model).weight.requires_grad
    assert table(model).active is None
    assert table(model).weight.requires_grad


def test_frozen_tables_are_not_limited(published: MuseEncoder) -> None:
    model = small_muse(published)
    with frozen_embeddings(model):
        assert not table(model).weight.requires_grad
        with limited_embeddings(model, ["words"]):
            assert table(model).active is None
    assert table(model).weight.requires_grad


@pytest.mark.slow
def test_limiting_does_not_change_the_result(
    published: MuseEncoder, tiny_data: RetrievalData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = train(small_muse(published), tiny_data, output_dir=tmp_path / "a", config=TrainConfig.from_dict(CONFIG))
    monkeypatch.setattr(stage_runner, "limited_embeddings", lambda *_: contextlib.nullcontext())
    whole = train(small_muse(published), tiny_data, output_dir=tmp_path / "b", config=TrainConfig.from_dict(CONFIG))
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == (tmp_path / "b" / "metrics.jsonl").read_text()
    start = small_muse(published).state_dict()
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, limited.state_dict()[name]), name
    assert not torch.equal(start["0.network.embedding.weight"], limited.state_dict()["0.network.embedding.weight"])


@pytest.mark.slow
def test_a_resumed_run_with_limited_embeddings_ends_the_same(
    published: MuseEncoder, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    class Interrupted(Progress):
        def __init__(self, steps: int) -> None:
            self._left = steps

        def step(self, loss: float) -> None:  # noqa: ARG002
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt

    config = TrainConfig.from_dict(CONFIG)
    whole = train(small_muse(published), tiny_data, output_dir=tmp_path / "a", config=config)
    for steps in (4, 6):
        with pytest.raises(KeyboardInterrupt):
            train(
                small_muse(published),
                tiny_data,
                output_dir=tmp_path / "b",
                config=config,
                resume=True,
                progress=Interrupted(steps),
            )
    resumed = train(small_muse(published), tiny_data, output_dir=tmp_path / "b", config=config, resume=True)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    assert all(torch.equal(weights, resumed.state_dict()[name]) for name, weights in whole.state_dict().items())
    assert table(resumed).weight.requires_grad


class Recorder(Progress):
    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self.weights: dict[str, torch.Tensor] = {}
        self.events: list[str] = []
        self.dev: list[DevScore] = []
        self.kept: dict[Stage, DevScore] = {}

    @override
    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        self.events.append(f"start {stage.value} {done_steps}")

    @override
    def step(self, loss: float) -> None:
        self.weights = {k: v.detach().clone() for k, v in self._model.state_dict().items()}

    def stage_skipped(self, stage: Stage) -> None:
        self.events.append(f"skip {stage.value}")

    def evaluated(self, dev: DevScore) -> None:
        self.dev.append(dev)

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        self.events.append(f"finish {stage.value}")
        self.kept[stage] = best


@pytest.mark.slow
def test_frozen_embeddings_keep_their_values_and_are_trainable_afterwards(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    start = {k: v.detach().clone() for k, v in tiny_model.state_dict().items()}
    config = replace(tiny_config, freeze_embeddings=True, stages=(Stage.TEACHER,))
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    changed = {name for name, value in progress.weights.items() if not torch.equal(value, start[name])}
    assert not [name for name in changed if "word_embeddings" in name]
    assert [name for name in changed if "position_embeddings" in name]
    assert [name for name in changed if "attention" in name]
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_a_model_without_a_table_cannot_be_frozen(tiny_data: RetrievalData, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    model = SentenceTransformer(modules=[BoW(vocab=["a"])], device="cpu")
    with pytest.raises(ValueError, match=r"freeze_embeddings: expected a model with a table of token embeddings"):
        train(model, tiny_data, output_dir=tmp_path / "run", config=TrainConfig(freeze_embeddings=True))
    assert not (tmp_path / "run").exists()
