"""Chunks of a micro-batch: their texts, and a gradient equal to the whole micro-batch's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.encoders import MuseEncoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.muse_tokenizer import unigram_tokenizer
from relkt.losses import contrastive_loss
from relkt.training import Progress, Stage, TrainConfig, train
from relkt.training.loop.gradient_cache import CachedForward, Chunk, make_chunks, split_by_length

# Texts of 1 to 6 words, not ordered by length: 3 to 8 tokens with [CLS] and [SEP].
LENGTHS = (3, 1, 6, 2, 5, 4, 1, 6, 3)
TEXTS = [
    " ".join(f"{'en' if row % 2 else 'de'}{row % 8}{letter}" for letter in "abcdef"[:n])
    for row, n in enumerate(LENGTHS)
]


def muse() -> SentenceTransformer:
    letters = [(letter, -3.0) for letter in "▁abcdefghn0123456789"]
    tokenizer = unigram_tokenizer([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *letters])
    torch.manual_seed(0)
    encoder = MuseEncoder(tokenizer, MuseConfig(40, 12, 8, 10, 6))
    encoder.network.reset_parameters()
    return SentenceTransformer(modules=[encoder], device="cpu")


def chunks_of(model: SentenceTransformer, texts: list[str], max_tokens: int) -> list[Chunk]:
    return make_chunks(texts, lambda some: model.preprocess(some), max_tokens=max_tokens, first_row=0)


def loss_of(embeddings: torch.Tensor) -> torch.Tensor:
    """A loss in which every embedding depends on all others."""
    return contrastive_loss(embeddings[:4], embeddings[4:], torch.tensor([1, 0, 3, 2]), temperature=0.1)


def gradients(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def gradients_in_chunks(
    model: SentenceTransformer, max_tokens: int, max_kept_tokens: int | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    chunked = CachedForward(model, chunks_of(model, TEXTS, max_tokens), len(TEXTS), max_kept_tokens=max_kept_tokens)
    loss_of(chunked.embeddings).backward()
    chunked.backward()
    return chunked.embeddings.detach(), gradients(model)


def test_split_by_length_by_hand() -> None:
    lengths = np.array([3, 9, 1, 4, 4])
    assert [rows.tolist() for rows in split_by_length(lengths, 8)] == [[1], [3, 4], [0, 2]]
    assert [rows.tolist() for rows in split_by_length(lengths, 12)] == [[1], [3, 4, 0], [2]]
    assert [rows.tolist() for rows in split_by_length(lengths, 0)] == [[1, 3, 4, 0, 2]]
    assert [rows.tolist() for rows in split_by_length(np.array([0, 0]), 5)] == [[0, 1]]


def test_chunks_keep_to_the_limit_and_hold_every_text() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=500)
    for most in (1, 40, 333, 10**6):
        chunks = split_by_length(lengths, most)
        assert sorted(np.concatenate(chunks).tolist()) == list(range(500))
        assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= most for rows in chunks)
        in_order = lengths[np.concatenate(chunks)]
        assert (np.diff(in_order) <= 0).all()
        # No chunk has room for the longest text of the next chunk.
        assert all((len(a) + 1) * lengths[a].max() > most for a in chunks[:-1])


def test_chunks_have_the_features_of_their_texts(tiny_model: SentenceTransformer) -> None:
    chunks = make_chunks(TEXTS, lambda some: tiny_model.preprocess(some), max_tokens=16, first_row=100)
    assert sorted(row for chunk in chunks for row in chunk["rows"].tolist()) == list(range(100, 100 + len(TEXTS)))
    assert max(chunk["tokens"] for chunk in chunks) == 16
    for chunk in chunks:
        expected = tiny_model.preprocess([TEXTS[row - 100] for row in chunk["rows"].tolist()])
        assert chunk["tokens"] == expected["input_ids"].numel()
        assert torch.equal(chunk["features"]["input_ids"], expected["input_ids"])


def test_lengths_are_characters_without_a_mask() -> None:
    chunks = make_chunks(["ccc", "a", "bb"], lambda some: {"texts": some}, max_tokens=4, first_row=0)
    assert [chunk["features"]["texts"] for chunk in chunks] == [["ccc"], ["bb", "a"]]


@pytest.mark.parametrize("max_kept_tokens", [None, 1, 40])
@pytest.mark.parametrize("max_tokens", [0, 9, 30])
@pytest.mark.parametrize("kind", ["bert", "muse"])
def test_the_gradient_equals_that_of_the_whole(
    kind: str, max_tokens: int, max_kept_tokens: int | None, model_of: Callable[..., SentenceTransformer]
) -> None:
    model = muse() if kind == "muse" else model_of(dropout=0.0)
    model.train()
    whole = model(model.preprocess(TEXTS))["sentence_embedding"]
    loss_of(whole).backward()
    expected = gradients(model)
    embeddings, found = gradients_in_chunks(model, max_tokens, max_kept_tokens)
    assert torch.allclose(embeddings, whole.detach(), atol=1e-6)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=2e-6, rtol=1e-4) for name in expected)
    assert any(gradient.abs().max() > 0.01 for gradient in expected.values())


def test_dropout_is_the_same_in_both_runs_of_a_chunk(tiny_model: SentenceTransformer) -> None:
    tiny_model.train()
    results = []
    for max_kept_tokens, seed in ((None, 1), (1, 1), (None, 2)):
        torch.manual_seed(seed)
        found = gradients_in_chunks(tiny_model, 16, max_kept_tokens)[1]
        results.append((found, torch.rand(3)))
    (kept, after_kept), (cached, after_cached), (other, _) = results
    assert all(torch.allclose(cached[name], kept[name], atol=1e-7, rtol=1e-5) for name in kept)
    assert not all(torch.allclose(other[name], kept[name], atol=1e-3) for name in kept)
    assert torch.equal(after_cached, after_kept)  # later draws are the same as after one run


@pytest.mark.parametrize(
    ("max_kept_tokens", "runs"),
    [(None, [True] * 4), (40, [False] * 2 + [True] * 4), (1, [False] * 3 + [True] * 4)],
)
def test_only_chunks_without_activations_are_run_twice(
    max_kept_tokens: int | None, runs: list[bool], tiny_model: SentenceTransformer
) -> None:
    """Chunks have 16, 15, 14 and 6 tokens; the two largest fit into 40."""
    seen: list[bool] = []
    tiny_model[0].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    chunks = chunks_of(tiny_model, TEXTS, 16)
    assert sorted(chunk["tokens"] for chunk in chunks) == [6, 14, 15, 16]
    gradients_in_chunks(tiny_model, 16, max_kept_tokens)
    assert seen == runs


def test_a_step_that_is_one_chunk_is_run_once(tiny_model: SentenceTransformer) -> None:
    seen: list[bool] = []
    tiny_model[0].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    gradients_in_chunks(tiny_model, 1000, max_kept_tokens=1)
    assert seen == [True]


class Losses(Progress):
    def __init__(self) -> None:
        self.values: list[float] = []

    @override
    def step(self, loss: float) -> None:
        self.values.append(loss)


@pytest.mark.slow
def test_stages_in_chunks_equal_those_of_whole_steps(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, short_config: TrainConfig, tmp_path: Path
) -> None:
    results = []
    for name, settings in (("whole", {}), ("chunks", {"chunk_tokens": 40, "gradient_cache": True})):
        progress = Losses()
        model = train(
            model_of(dropout=0.0),
            tiny_data,
            output_dir=tmp_path / name,
            config=replace(short_config, stages=(Stage.WARMUP, Stage.CONTRASTIVE), **settings),
            progress=progress,
        )
        results.append((progress.values, model.state_dict()))
    (losses, whole), (chunked_losses, chunked) = results
    assert chunked_losses == pytest.approx(losses, rel=1e-4)
    assert all(torch.allclose(whole[name], chunked[name], atol=2e-4) for name in whole)


@pytest.mark.slow
def test_an_interrupted_run_in_chunks_resumes_bit_identically(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, short_config: TrainConfig, tmp_path: Path
) -> None:
    """In bfloat16 and with dropout, so that both runs of a chunk depend on more than the weights."""
    settings = {"chunk_tokens": 40, "gradient_cache": True, "precision": "bfloat16", "stages": ["warmup"]}
    config = TrainConfig.from_dict(short_config.to_dict() | settings)

    class Interrupted(Progress):
        steps = 0

        @override
        def step(self, loss: float) -> None:
            self.steps += 1
            if self.steps == 9:  # of 14, with a checkpoint after 7
                raise KeyboardInterrupt

    seen: set[tuple[bool, bool]] = set()
    whole = model_of()

    def record(module: torch.nn.Module, *_: object) -> None:
        if module.training:
            seen.add((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))

    whole[1].register_forward_hook(record)
    train(whole, tiny_data, output_dir=tmp_path / "whole", config=config)
    assert seen == {(True, True), (False, True)}
    with pytest.raises(KeyboardInterrupt):
        train(model_of(), tiny_data, output_dir=tmp_path / "cut", config=config, progress=Interrupted())
    train(model_of(), tiny_data, output_dir=tmp_path / "cut", config=config, resume=True)
    for file in ("metrics.jsonl", "model/model.safetensors", "results.json"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
