"""One mining: counts, missing negatives, random states and precision."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from datasets import Dataset
from remine_cases import CONDITIONS, _arguments, _state, texts
from sentence_transformers import SentenceTransformer

import relkt
from relkt.encoders import encode_passages, encode_queries
from relkt.training.remine import RemineCallback
from relkt.training.remine.mining import filled, without_repeats


def test_documents_exclusions_and_corpus(tiny_model, pairs):
    """Passages of a positive's document are excluded; passages of the corpus are candidates."""
    corpus = Dataset.from_dict({"positive": ["en0a en0b", "en7c"], "document": ["d0", None]})
    rows = pairs.map(lambda row: {"never": ["en7c"] if row["document"] == "d1" else []})
    remine = RemineCallback(
        rows, tiny_model, num_negatives=12, corpus=corpus, document_column="document", exclude_column="never"
    )
    document_of = dict(zip(pairs["positive"], pairs["document"], strict=True)) | {"en0a en0b": "d0"}
    negatives = {}
    for row in remine.dataset:
        found = {row[name] for name in remine.columns}
        negatives.setdefault(document_of[row["positive"]], set()).update(found)
        assert document_of[row["positive"]] not in {document_of.get(text) for text in found}
    assert "en0a en0b" not in negatives["d0"]
    assert "en0a en0b" in negatives["d1"]
    assert "en7c" not in negatives["d1"]
    assert "en7c" in negatives["d2"]


def test_anchors_without_negatives(tiny_model, pairs, caplog):
    scores = encode_queries(tiny_model, pairs["anchor"]) @ encode_passages(tiny_model, texts(pairs)[1]).T
    lowest = float(np.median(scores.max(axis=1)))
    with pytest.raises(ValueError, match=r"pairs: \d+ of \d+ anchors have no negative .* the first in row \d+: '"):
        RemineCallback(pairs, tiny_model, min_score=lowest, without_negatives="error")
    with caplog.at_level(logging.WARNING, "relkt"):
        remine = RemineCallback(pairs, tiny_model, min_score=lowest)
    left_out = len(pairs) - len(remine.dataset)
    assert 0 < left_out < len(pairs)
    assert f"{left_out} of {len(pairs)} pairs are left out" in caplog.text
    assert None not in remine.dataset[:]["negative_1"]
    assert set(remine.dataset["anchor"]) < set(pairs["anchor"])
    with pytest.raises(ValueError, match=r"anchors have no negative"):
        RemineCallback(pairs, tiny_model, min_score=1.0)


def test_anchors_that_are_left_out_are_not_counted(tmp_path, model_of, pairs, caplog):
    anchors, passages = texts(pairs)
    positives = [[passages.index(r["positive"]) for r in pairs if r["anchor"] == a] for a in anchors]
    mined = [
        relkt.mine(encode_queries(m, anchors), encode_passages(m, passages), positives, num_negatives=2)
        for m in (model_of(), model_of(seed=3))
    ]
    conditions = {"num_negatives": 2, "min_score": float(np.median(mined[0].scores[:, 0]))}
    above = [each.scores >= conditions["min_score"] for each in mined]
    used = above[0].any(axis=1)
    assert 0 < used.sum() < len(used)
    assert above[1][~used].any()  # some omitted anchors would have negatives now
    remine = RemineCallback(pairs, model_of(), **conditions)
    args, state = _arguments(tmp_path), _state()
    dropped = []
    for number, each in enumerate(mined):
        if number:
            with caplog.at_level(logging.WARNING, "relkt"):
                remine.on_epoch_begin(args, state, None, model=model_of(seed=3))
        found = above[number] & used[:, None]
        dropped.append(used & ~found.any(axis=1))
        assert remine.last.negatives == found.sum()
        assert remine.last.filled == (found.sum(axis=1) == 1).sum()
        assert remine.last.kept == dropped[number].sum()
        assert remine.last.score == pytest.approx(float(each.scores[found].mean()), abs=1e-5)
        assert remine.last.positive_score == pytest.approx(float(each.positive_scores[used].mean()), abs=1e-5)
    assert f"of {2 * used.sum()} negatives" in caplog.text
    assert f"of {used.sum()} anchors lost all their negatives and keep" in caplog.text
    assert set(remine.dataset["anchor"]) == {anchor for anchor, use in zip(anchors, used, strict=True) if use}


def test_mining_restores_all_random_states(tmp_path, model_of, pairs):
    """Restored even if the model draws random numbers."""
    model, drawn = model_of(), []

    def draw(*_) -> None:
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002

    model.register_forward_pre_hook(draw)
    model[0].eval()
    model[1].train()
    modes = [module.training for module in model.modules()]

    def states() -> tuple[object, ...]:
        of_numpy = [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()]  # noqa: NPY002
        return torch.get_rng_state().tolist(), of_numpy, random.getstate()

    before = states()
    remine = RemineCallback(pairs, model, **CONDITIONS)
    assert len(set(drawn)) == len(drawn) > 1
    assert states() == before
    with torch.no_grad():
        model[0].model.embeddings.word_embeddings.weight.mul_(1.5)
    count = len(drawn)
    remine.on_epoch_begin(_arguments(tmp_path), _state(), None, model=model)
    assert len(drawn) > count
    assert states() == before
    assert [module.training for module in model.modules()] == modes


def test_mining_is_without_mixed_precision(model_of, pairs):
    """Mining does not run Accelerate's wrapper around a model's forward."""
    model = model_of()
    rows = list(RemineCallback(pairs, model, **CONDITIONS).dataset)
    plain, called = model.forward, []

    def wrapped(*arguments, **keywords):
        called.append(1)
        return plain(*arguments, **keywords)

    model.__dict__.update(forward=wrapped, _original_forward=plain)
    assert list(RemineCallback(pairs, model, **CONDITIONS).dataset) == rows
    assert not called
    assert model.__dict__["forward"] is wrapped
    assert model.__dict__["_original_forward"] is plain
    model.encode("en0a")
    assert called


def test_an_anchor_that_loses_its_negatives_keeps_the_previous_ones(tmp_path, model_of, pairs, caplog):
    anchors, passages = texts(pairs)
    positives = [[passages.index(r["positive"]) for r in pairs if r["anchor"] == a] for a in anchors]

    def best(model: SentenceTransformer) -> list[float]:
        scores = encode_queries(model, anchors) @ encode_passages(model, passages).T
        return [float(np.delete(row, own).max()) for row, own in zip(scores, positives, strict=True)]

    other, model = sorted((model_of(), model_of(seed=3)), key=lambda model: min(best(model)))
    lowest = min(best(model)) - 1e-5
    remine = RemineCallback(pairs, model, num_negatives=1, min_score=lowest)
    before = list(remine.dataset)
    args, state = _arguments(tmp_path), _state()
    with caplog.at_level(logging.WARNING, "relkt"):
        remine.on_epoch_begin(args, state, None, model=other)
    lost = [anchor for anchor, score in zip(anchors, best(other), strict=True) if score < lowest]
    assert 0 < len(lost) < len(anchors)
    assert state.log_history[0]["remine_kept"] == remine.last.kept == len(lost)
    assert f"{len(lost)} of {len(anchors)} anchors lost all their negatives and keep the previous ones" in caplog.text
    for was, now in zip(before, remine.dataset, strict=True):
        assert now["negative_1"] == was["negative_1"] or now["anchor"] not in lost


def test_filling():
    rows = np.array([[4, 4, 2, 4], [-1, 3, -1, -1], [1, -1, 2, 3], [-1, -1, -1, -1]])
    scores = np.where(rows < 0, np.nan, rows / 10).astype(np.float32)
    once, once_scores = without_repeats(rows, scores)
    assert once.tolist() == [[4, 2, -1, -1], [3, -1, -1, -1], [1, 2, 3, -1], [-1, -1, -1, -1]]
    np.testing.assert_array_equal(once_scores, np.where(once < 0, np.nan, once / 10).astype(np.float32))
    assert filled(once).tolist() == [[4, 2, 4, 2], [3, 3, 3, 3], [1, 2, 3, 1], [-1, -1, -1, -1]]
