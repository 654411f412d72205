"""Which token embeddings are trained, with a small mUSE of random weights."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData
from relkt.encoders import MuseEncoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.piece_embedding import PieceEmbedding
from relkt.training import Progress, TrainConfig, train
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


def test_only_tokens_of_the_texts_are_trained_and_all_of_them_afterwards(published: MuseEncoder) -> None:
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


def test_limiting_changes_nothing_but_the_time(
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
