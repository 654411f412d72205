"""Re-mining inside a real training: which negatives an epoch has, and that nothing else changes."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import random
import runpy
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss, TripletLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerState
from typing_extensions import override

import relkt
from relkt.encoders import encode_passages, encode_queries
from relkt.training.remine import CHECKPOINT_FILE, RemineCallback
from relkt.training.remine.mining import filled, without_repeats

CONDITIONS = {"num_negatives": 2, "relative_margin": 0.02}


@pytest.fixture(scope="module")
def pairs(data_of):
    data = data_of()
    text_of = {passage.id: passage for passage in data.passages}
    rows = [
        {"anchor": q.text, "positive": text_of[p].text, "document": text_of[p].document}
        for q in data.queries
        if q.language != "th"
        for p in data.positives(q.id)
    ]
    return Dataset.from_list(rows[::2])


class Spy(TrainerCallback):
    """Notes the rows and the embeddings at the start of each epoch, and the random states around the mining."""

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
    """The negatives of each row by a call of relkt.mine."""
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


def test_each_epoch_has_the_negatives_of_its_start(tmp_path, tiny_model, pairs):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    assert remine.dataset.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    states: list[object] = []
    before, after = Spy(remine, states), Spy(remine, states)
    trainer = train(tmp_path, tiny_model, None, remine.dataset, callbacks=[before, remine, after])
    assert len(after.rows) == 3
    for rows, embedded in zip(after.rows, after.embedded, strict=True):
        negatives = [[row["negative_1"], row["negative_2"]] for row in rows]
        assert negatives == expected(rows, embedded, **CONDITIONS)
        assert [(row["anchor"], row["positive"]) for row in rows] == list(
            zip(pairs["anchor"], pairs["positive"], strict=True)
        )
    assert before.rows[0] == after.rows[0]  # mined when made, with the same weights
    assert before.rows[1] != after.rows[1]
    assert before.rows[2] == after.rows[1]
    # Embedding is in between, and leaves no trace.
    for place in range(0, len(states), 4):
        assert states[place : place + 2] == states[place + 2 : place + 4]
    entries = [entry for entry in trainer.state.log_history if "remine_negatives" in entry]
    assert [entry["epoch"] for entry in entries] == [0, 1, 2]
    assert entries[0]["remine_changed"] == 1 > entries[1]["remine_changed"] > 0 == entries[0]["remine_seconds"]
    assert entries[2]["remine_negatives"] == 2 * len(set(pairs["anchor"]))
    assert -1 <= entries[2]["remine_score"] < entries[2]["remine_positive_score"] <= 1


def test_the_training_is_otherwise_the_same(tmp_path, model_of, pairs):
    """Without changes of the negatives, it is the training on a data set of their texts."""
    model = model_of()
    remine = RemineCallback(pairs, model, every=100, **CONDITIONS)
    fixed = Dataset.from_list(list(remine.dataset))
    train(tmp_path / "a", model, remine)
    other = model_of()
    train(tmp_path / "b", other, None, fixed)
    assert_same(weights(model), weights(other))


@pytest.mark.parametrize(
    "arguments",
    [
        {"dataloader_num_workers": 2},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "batch_sampler": "batch_sampler"},
    ],
    ids=["workers", "accumulation"],
)
def test_variants_of_loading(tmp_path, model_of, pairs, arguments):
    """Worker processes see what the main process sees; accumulation starts no epoch of its own."""
    seen = []
    for number, more in enumerate([{}, arguments]):
        model = model_of(dropout=0.0)
        remine = RemineCallback(pairs, model, **CONDITIONS)
        spy = Spy(remine, [])
        train(tmp_path / str(number), model, None, remine.dataset, callbacks=[remine, spy], **more)
        seen.append((weights(model), spy.rows))
    if "dataloader_num_workers" in arguments:
        assert_same(seen[0][0], seen[1][0])
        assert seen[0][1] == seen[1][1]
    else:
        assert len(seen[1][1]) == 3
        assert seen[0][1][0] == seen[1][1][0]
        assert seen[1][1][1] != seen[1][1][0]


def test_no_duplicates_in_a_dict_with_prompts(tmp_path, model_of, pairs, monkeypatch, caplog):
    """The sampler and the collator read current texts, wherever in a dict the data set is."""
    model = model_of(prompts={"query": "query : ", "document": ""})
    remine = RemineCallback(pairs, model, **CONDITIONS)
    spy = Spy(remine, [])
    batches = []
    plain = Dataset.from_dict({"anchor": ["en0a", "en1b"] * 4, "positive": ["en0b", "en1c"] * 4})
    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=2e-3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        batch_sampler="no_duplicates",
        prompts={"mined": {"anchor": "query : "}, "plain": {"anchor": "query : "}},
    )
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=args,
        train_dataset={"mined": remine.dataset, "plain": plain},
        loss={"mined": loss, "plain": loss},
        callbacks=[remine, spy],
    )
    kind = type(trainer.data_collator)
    collate = kind.__call__
    record = lambda self, rows: (batches.append((len(spy.rows), rows)), collate(self, rows))[1]  # noqa: E731
    monkeypatch.setattr(kind, "__call__", record)
    trainer.train()
    assert "does not look up" not in caplog.text
    current = {}
    for epoch, rows in enumerate(spy.rows, start=1):
        current[epoch] = {(r["anchor"], r["positive"]): (r["negative_1"], r["negative_2"]) for r in rows}
    mined = [(epoch, rows) for epoch, rows in batches if rows[0]["dataset_name"] == "mined"]
    assert {epoch for epoch, _ in mined} == {1, 2}
    for epoch, rows in mined:
        for row in rows:
            assert list(row) == ["anchor", "positive", "negative_1", "negative_2", "dataset_name"]
            assert current[epoch][row["anchor"], row["positive"]] == (row["negative_1"], row["negative_2"])
        texts_of = [{row[name] for name in list(row)[:4]} for row in rows]
        assert sum(map(len, texts_of)) == len(set().union(*texts_of))
    assert current[1] != current[2]


@pytest.mark.parametrize(("every", "step"), [(1, 4), (2, 8), (1, 5)], ids=["inside", "in the second", "between"])
def test_going_on_from_a_checkpoint(tmp_path, model_of, pairs, every, step):
    """The negatives, batches and weights are those of a training that was not stopped, bit for bit."""
    arguments = {"save_strategy": "steps", "save_steps": step, "batch_sampler": "no_duplicates"}
    model = model_of()
    remine = RemineCallback(pairs, model, every=every, **CONDITIONS)
    whole = Spy(remine, [])
    trainer = train(tmp_path, model, None, remine.dataset, callbacks=[remine, whole], **arguments)
    assert trainer.state.max_steps == 15  # five an epoch
    checkpoint = tmp_path / f"checkpoint-{step}"
    assert (checkpoint / CHECKPOINT_FILE).is_file()

    other = model_of()
    again = RemineCallback(pairs, other, every=every, **CONDITIONS)
    rest = Spy(again, [])
    train(tmp_path, other, None, again.dataset, callbacks=[again, rest], resume=str(checkpoint), **arguments)
    assert rest.rows == whole.rows[step // 5 :]
    assert_same(weights(model), weights(other))
    assert rest.rows[0] != rest.rows[1]


def test_going_on_between_epochs_with_negatives_that_were_kept(tmp_path, model_of, pairs):
    """Anchors that lose their negatives keep those of the checkpoint, not those of the first mining."""
    arguments = {"save_strategy": "epoch", "num_train_epochs": 4, "learning_rate": 1e-2}

    def trained(resume: str | None) -> tuple[SentenceTransformer, Spy, list[dict[str, float]]]:
        model = model_of()
        remine = RemineCallback(pairs, model, num_negatives=1, min_score=0.5, max_score=0.85)
        spy = Spy(remine, [])
        callbacks = [remine, spy]
        trainer = train(tmp_path, model, None, remine.dataset, callbacks=callbacks, resume=resume, **arguments)
        history = [{**entry, "remine_seconds": 0} for entry in trainer.state.log_history if "remine_kept" in entry]
        return model, spy, history

    model, whole, history = trained(None)
    steps = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
    assert len(steps) == 4
    for epoch in (2, 3):
        assert history[epoch]["remine_kept"] > 0
        other, rest, again = trained(str(tmp_path / f"checkpoint-{steps[epoch - 1]}"))
        assert rest.rows == whole.rows[epoch:]
        assert again == history
        assert_same(weights(model), weights(other))


def test_going_on_with_the_same_callback(tmp_path, model_of, pairs):
    """The last mining of the training that is gone back in is not that of the negatives in use."""
    arguments = {"save_strategy": "steps", "save_steps": 4}
    model = model_of()
    remine = RemineCallback(pairs, model, **CONDITIONS)
    spy = Spy(remine, [])
    train(tmp_path, model, None, remine.dataset, callbacks=[remine, spy], **arguments)
    resume = str(tmp_path / "checkpoint-8")
    train(tmp_path, model, None, remine.dataset, callbacks=[remine, spy], resume=resume, **arguments)
    assert spy.rows[3:] == spy.rows[1:3]
    assert spy.rows[1] != spy.rows[2]


@pytest.mark.parametrize("found", ["none", "of other weights", "truncated"])
def test_a_checkpoint_without_its_negatives_is_mined_with_its_weights(tmp_path, model_of, pairs, caplog, found):
    arguments = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    model = model_of()
    remine = RemineCallback(pairs, model, **CONDITIONS)
    train(tmp_path, model, remine, **arguments)
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "elsewhere" / "checkpoint-2")
    file = tmp_path / "checkpoint-2" / CHECKPOINT_FILE
    if found == "none":
        file.unlink()
    elif found == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    else:
        shutil.copy(tmp_path / "checkpoint-8" / CHECKPOINT_FILE, file)

    other = model_of()
    again = RemineCallback(pairs, other, **CONDITIONS)
    spy = Spy(again, [])
    with caplog.at_level(logging.WARNING, "relkt"):
        train(
            tmp_path,
            other,
            None,
            again.dataset,
            callbacks=[again, spy],
            resume=str(tmp_path / "elsewhere" / "checkpoint-2"),
            **arguments,
        )
    assert "Resuming without the negatives of the checkpoint" in caplog.text
    assert ("cannot be read" in caplog.text) is (found == "truncated")
    negatives = [[row["negative_1"], row["negative_2"]] for row in spy.rows[0]]
    assert negatives == expected(spy.rows[0], spy.embedded[0], **CONDITIONS)


def test_triplets_drawn_at_random(tmp_path, tiny_model, pairs):
    """Each epoch draws with a seed of its own."""
    conditions = {"num_negatives": 1, "strategy": "random", "range_min": 1, "range_max": 8}
    remine = RemineCallback(pairs, tiny_model, seed=5, **conditions)
    spy = Spy(remine, [])
    train(tmp_path, tiny_model, None, remine.dataset, TripletLoss, [remine, spy], learning_rate=0.0)
    drawn = [[[row["negative_1"]] for row in rows] for rows in spy.rows]
    for epoch in range(3):
        assert drawn[epoch] == expected(spy.rows[epoch], spy.embedded[epoch], seed=5 + epoch, **conditions)
    assert drawn[0] != drawn[1] != drawn[2]


def test_documents_exclusions_and_corpus(tiny_model, pairs):
    """Passages of a positive's document are no negatives, those of the corpus are candidates."""
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


def test_hard_and_semi_hard_columns(tiny_model, pairs):
    remine = RemineCallback(pairs, tiny_model, num_hard=1, num_semi_hard=2, margin=np.float32(2.0))
    anchors, passages = texts(pairs)
    positives = [[passages.index(r["positive"]) for r in pairs if r["anchor"] == a] for a in anchors]
    mined = relkt.mine(
        encode_queries(tiny_model, anchors),
        encode_passages(tiny_model, passages),
        positives,
        num_hard=1,
        num_semi_hard=2,
        margin=2.0,
    )
    assert remine.columns == ("negative_1", "negative_2", "negative_3")
    assert (mined.hard_indices < 0).any()  # some anchors have two only, and the first again
    for row in remine.dataset:
        query = anchors.index(row["anchor"])
        own = [passages[i] for i in (*mined.hard_indices[query], *mined.semi_hard_indices[query]) if i >= 0]
        assert [row[name] for name in remine.columns] == (own * 3)[:3]
    assert remine.last.filled == 3 * len(anchors) - remine.last.negatives > 0
    scores = np.concatenate([mined.hard_scores, mined.semi_hard_scores], axis=1)  # each negative is in one list
    assert remine.last.score == pytest.approx(np.nanmean(scores), abs=1e-5)


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


def test_anchors_that_are_left_out_count_nowhere(tmp_path, model_of, pairs, caplog):
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
    assert above[1][~used].any()  # some that are left out would have negatives now
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


def test_mining_leaves_all_random_states(tmp_path, model_of, pairs):
    """Whatever the model draws."""
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
    """What Accelerate puts around a model's forward is not run."""
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


def test_an_anchor_that_loses_its_negatives_keeps_those_it_had(tmp_path, model_of, pairs, caplog):
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


def test_rows_keep_their_negatives_wherever_they_are_moved(tiny_model, pairs):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    rows = list(remine.dataset)
    assert list(remine.dataset.select([5, 3])) == [rows[5], rows[3]]
    assert remine.dataset.shuffle(seed=1)[0] in rows
    assert list(remine.dataset.remove_columns("negative_1")["negative_2"]) == [row["negative_2"] for row in rows]
    assert remine.dataset[2:4]["negative_1"] == [rows[2]["negative_1"], rows[3]["negative_1"]]


def test_columns_are_not_read_row_by_row(tiny_model, pairs, monkeypatch):
    kind = type(pairs["anchor"])
    whole = kind.__getitem__

    def get(column, key):
        assert isinstance(key, slice), "one row at a time"
        return whole(column, key)

    monkeypatch.setattr(kind, "__getitem__", get)
    monkeypatch.setattr(kind, "__iter__", None)
    remine = RemineCallback(pairs, tiny_model, corpus=pairs, document_column="document", **CONDITIONS)
    assert len(remine.dataset) == len(pairs)


def test_filling():
    rows = np.array([[4, 4, 2, 4], [-1, 3, -1, -1], [1, -1, 2, 3], [-1, -1, -1, -1]])
    scores = np.where(rows < 0, np.nan, rows / 10).astype(np.float32)
    once, once_scores = without_repeats(rows, scores)
    assert once.tolist() == [[4, 2, -1, -1], [3, -1, -1, -1], [1, 2, 3, -1], [-1, -1, -1, -1]]
    np.testing.assert_array_equal(once_scores, np.where(once < 0, np.nan, once / 10).astype(np.float32))
    assert filled(once).tolist() == [[4, 2, 4, 2], [3, 3, 3, 3], [1, 2, 3, 1], [-1, -1, -1, -1]]


def test_prompts_of_mining(model_of, pairs, tmp_path, caplog):
    """Mining embeds with the prompts given; the trainer's others are told."""
    prompted = model_of(prompts={"query": "query : ", "document": "text : "})
    plain = model_of()
    given = {"query_prompt": "query : ", "passage_prompt": "text : "}
    rows = [list(RemineCallback(pairs, m, **kw).dataset) for m, kw in ((prompted, {}), (plain, given), (plain, {}))]
    assert rows[0] == rows[1] != rows[2]
    remine = RemineCallback(pairs, plain, **given)
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, plain, remine, num_train_epochs=1, prompts={"anchor": "query : "})
    assert "puts the prompt '' before the texts of 'negative_3', mining puts 'text : '" in caplog.text
    assert "'anchor', mining" not in caplog.text


def test_a_data_set_of_something_else_is_told(tmp_path, tiny_model, pairs, caplog):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, tiny_model, remine, pairs.select_columns(["anchor", "positive"]), num_train_epochs=1)
    assert "does not look up the negatives of this RemineCallback" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, tiny_model, remine, remine.dataset.select(range(10)), num_train_epochs=1)
    assert "does not look up" not in caplog.text


def test_numbers_are_never_trained_on(tmp_path, tiny_model, pairs):
    remine, other = (RemineCallback(rows, tiny_model, **CONDITIONS) for rows in (pairs, pairs.select(range(20))))
    dataset = remine.dataset
    for changed, columns in [
        (dataset.rename_column("negative_2", "hard"), r"\['hard'\]"),
        (concatenate_datasets([dataset, other.dataset]), r"\['negative_1', 'negative_2'\]"),
        (dataset.with_format(None), r"\['negative_1', 'negative_2'\]"),
    ]:
        message = f"train_dataset: expected the negatives of a RemineCallback's dataset in {columns}, got numbers"
        with pytest.raises(TypeError, match=message):
            train(tmp_path, tiny_model, remine, changed)
    written = dataset.map(lambda row: {"negative_1": row["negative_1"]})
    with pytest.raises(TypeError, match="negative_1: expected the numbers that a RemineCallback's dataset keeps there"):
        train(tmp_path, tiny_model, remine, written)
    loader = DataLoader(dataset.add_column("number", list(range(len(dataset)))))
    remine.on_train_begin(_arguments(tmp_path), _state(), None, model=tiny_model, train_dataloader=loader)
    assert isinstance(loader.dataset[0]["number"], int)  # a number of the user's is none of ours


def test_what_becomes_of_the_data_set(tmp_path, tiny_model, pairs):
    """As the docstring says."""
    dataset = RemineCallback(pairs, tiny_model, **CONDITIONS).dataset
    rows = list(dataset)
    assert list(concatenate_datasets([dataset, dataset])) == rows * 2
    assert list(dataset.filter(lambda row: row["negative_1"] != "")) == rows
    assert list(dataset.map(lambda row: {"k": len(row)})) == [{**row, "k": len(row)} for row in rows]
    assert list(dataset.train_test_split(0.5, shuffle=False)["test"]) == rows[len(rows) // 2 :]
    for stored in (
        lambda: dataset.map(lambda row: row)[0],
        lambda: dataset.select([3, 2]).flatten_indices()[0],
        lambda: dataset.batch(2)[0],
        lambda: dataset.save_to_disk(str(tmp_path / "saved")),
    ):
        with pytest.raises(TypeError):
            stored()
    with pytest.raises(NotImplementedError):
        dataset.to_iterable_dataset()
    for read in (dataset.with_format(None)[0], dataset.to_list()[0], dataset.to_dict(), dataset.to_pandas().iloc[0]):
        assert np.asarray(read["negative_1"]).dtype.kind == "i"
    frozen = Dataset.from_list(rows)
    frozen.save_to_disk(str(tmp_path / "frozen"))
    assert list(Dataset.load_from_disk(str(tmp_path / "frozen")).map(lambda row: row).flatten_indices()) == rows


def test_evaluation_data_with_changing_negatives_is_told(tmp_path, tiny_model, pairs, caplog):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    parts = remine.dataset.train_test_split(0.3, seed=0)
    frozen = Dataset.from_list(list(parts["test"]))
    for evaluated, times in ((parts["test"], 1), ({"a": frozen, "b": parts["test"]}, 1), (frozen, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "relkt"):
            train(
                tmp_path,
                tiny_model,
                remine,
                parts["train"],
                eval_dataset=evaluated,
                eval_strategy="epoch",
                num_train_epochs=2,
            )
        assert caplog.text.count("eval_dataset looks up the negatives") == times


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ({"mined": "query : "}, False),
        ({"mined": dict.fromkeys(("anchor", "positive", "negative_1", "negative_2"), "query : ")}, False),
        ({"mined": "text : "}, True),
        ({"mined": {"anchor": "query : "}}, True),
        ({"other": {"anchor": "query : "}}, True),
        ("query : ", False),
    ],
)
def test_prompts_by_data_set(tmp_path, model_of, pairs, caplog, prompts, told):
    model = model_of(prompts={"query": "query : ", "document": "query : "})
    remine = RemineCallback(pairs, model, **CONDITIONS)
    with caplog.at_level(logging.WARNING, "relkt"):
        train(tmp_path, model, remine, {"mined": remine.dataset}, prompts=prompts, max_steps=1)
    assert ("puts the prompt" in caplog.text) is told


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_sampler_with_hashes_is_refused_however_it_is_made(tmp_path, tiny_model, pairs, several):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    sampler = partial(NoDuplicatesBatchSampler, precompute_hashes=True)
    plain = Dataset.from_list(list(remine.dataset))
    dataset = {"plain": plain, "mined": remine.dataset} if several else remine.dataset
    with pytest.raises(ValueError, match="batch_sampler: expected another sampler"):
        train(tmp_path, tiny_model, remine, dataset, batch_sampler=sampler)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataloader_num_workers": 1, "dataloader_persistent_workers": True}, "dataloader_persistent_workers: exp"),
        ({"batch_sampler": "no_duplicates_hashed"}, "batch_sampler: expected another sampler"),
    ],
)
def test_settings_that_would_keep_old_negatives(tmp_path, tiny_model, pairs, arguments, message):
    remine = RemineCallback(pairs, tiny_model, **CONDITIONS)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, tiny_model, remine, **arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pairs": {"anchor": ["a"]}}, TypeError, "pairs: expected a datasets.Dataset, got dict"),
        ({"model": "muse"}, TypeError, "model: expected a SentenceTransformer, got str"),
        ({"anchor_column": "question"}, ValueError, "anchor_column: expected a column of pairs"),
        ({"positive_column": "anchor"}, ValueError, "expected two columns, got 'anchor' for both"),
        ({"num_negatives": 0}, ValueError, "num_negatives"),
        ({"range_min": -1}, ValueError, "range_min"),
        ({"num_negatives": 999}, ValueError, "num_negatives: expected at most 16, the number of distinct passages"),
        ({"margin": 0.1}, ValueError, "margin: expected only with num_semi_hard above 0"),
        ({"seed": -1}, ValueError, "seed"),
        ({"strategy": "best"}, ValueError, "strategy: expected 'top' or 'random', got 'best'"),
        ({"every": 0}, ValueError, "every: expected an integer of at least 1, got 0"),
        ({"every": 1.5}, TypeError, "every: expected an integer"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"threads": 0}, ValueError, "threads: expected an integer of at least 1"),
        ({"query_prompt": 3}, TypeError, "query_prompt"),
        ({"without_negatives": "ignore"}, ValueError, "without_negatives: expected one of 'leave-out', 'error'"),
        ({"corpus": "one text"}, TypeError, "corpus: expected texts"),
        ({"corpus": ["one", 2]}, TypeError, "corpus, row 1: expected a text, got 2"),
        ({"corpus": ["one", " "]}, ValueError, "corpus, row 1: expected the text of a passage, got ' '"),
        ({"document_column": "topic"}, ValueError, "document_column: expected a column of pairs"),
        ({"exclude_column": "document"}, TypeError, "pairs, row 0: expected a list of texts in 'document'"),
    ],
)
def test_bad_arguments(tiny_model, pairs, change, error, message, monkeypatch):
    monkeypatch.setattr("relkt.training.remine.mining.encode_queries", None)  # nothing is embedded
    with pytest.raises(error, match=message):
        RemineCallback(**{"pairs": pairs, "model": tiny_model, **change})


def test_bad_rows(tiny_model):
    with pytest.raises(ValueError, match="pairs, row 1: expected the text of a query, got ''"):
        RemineCallback(Dataset.from_dict({"a": ["x", ""], "b": ["y", "z"]}), tiny_model)
    with pytest.raises(TypeError, match="pairs, row 1: expected a text in 'b', got None"):
        RemineCallback(Dataset.from_dict({"a": ["x", "w"], "b": ["y", None]}), tiny_model)
    with pytest.raises(ValueError, match="expected another name for the column 'negative_1'"):
        RemineCallback(Dataset.from_dict({"a": ["x", "w"], "negative_1": ["y", "z"]}), tiny_model)


def _process(rank: int, folder: str, model: SentenceTransformer, pairs: Dataset) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    remine = RemineCallback(pairs, model, **CONDITIONS)
    torch.manual_seed(rank + 1)
    with torch.no_grad():  # weights that differ, so that only sending makes the negatives the same
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    trainer_state, args = _state(), SentenceTransformerTrainingArguments(f"{folder}/{rank}", use_cpu=True)
    before = list(remine.dataset)
    remine.on_epoch_begin(args, trainer_state, None, model=model)
    own = RemineCallback(pairs, model, **CONDITIONS)
    np.savez(f"{folder}/{rank}.npz", rows=remine._lookup.rows, own=own._lookup.rows)
    assert list(remine.dataset) != before
    torch.distributed.destroy_process_group()


def _arguments(folder: Path) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(str(folder), use_cpu=True, disable_tqdm=True)


def _state() -> TrainerState:
    state = TrainerState()
    state.epoch, state.global_step = 0.0, 0
    return state


def test_every_process_has_the_negatives_of_rank_0(tmp_path, tiny_model, pairs):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_process, args=(rank, str(tmp_path), tiny_model, pairs)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert first["rows"].tolist() == second["rows"].tolist() == first["own"].tolist()
    assert second["own"].tolist() != first["own"].tolist()


def word_vectors(texts: Iterable[str]) -> SentenceTransformer:
    """A random vector for each word, of which a text has the mean."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    torch.manual_seed(0)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu")


def test_the_example_runs(tmp_path, capsys):
    path = Path(__file__).parents[3] / "docs" / "examples" / "remine.py"
    if not path.is_file():
        pytest.skip("the examples are not beside the tests")
    data = relkt.load_data("relkt-mini", languages=["en"])
    word_vectors(item.text for item in (*data.passages, *data.queries)).save(str(tmp_path / "encoder"))
    capsys.readouterr()
    arguments = ["--encoder", tmp_path / "encoder", "--languages", "en", "--epochs", "2", "--output", tmp_path / "out"]
    before, after = runpy.run_path(str(path))["main"]([str(argument) for argument in arguments])
    printed = capsys.readouterr().out
    assert f"P@1 of the development questions: {before:.3f} before, {after:.3f} after" in printed
    assert "epoch 2: " in printed
    assert (tmp_path / "out" / "modules.json").is_file()
