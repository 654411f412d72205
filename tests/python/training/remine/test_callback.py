"""Re-mining in a training: the negatives of each epoch, and an otherwise unchanged training."""

from __future__ import annotations

import logging
import multiprocessing
import runpy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from remine_cases import CONDITIONS, Spy, _state, assert_same, expected, texts, train, weights
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss, TripletLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import relkt
from relkt.encoders import encode_passages, encode_queries
from relkt.training.remine import RemineCallback

pytestmark = pytest.mark.slow


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
    assert before.rows[0] == after.rows[0]  # the callback mines when made, with the initial weights
    assert before.rows[1] != after.rows[1]
    assert before.rows[2] == after.rows[1]
    # Embedding between two states changes no random state.
    for place in range(0, len(states), 4):
        assert states[place : place + 2] == states[place + 2 : place + 4]
    entries = [entry for entry in trainer.state.log_history if "remine_negatives" in entry]
    assert [entry["epoch"] for entry in entries] == [0, 1, 2]
    assert entries[0]["remine_changed"] == 1 > entries[1]["remine_changed"] > 0 == entries[0]["remine_seconds"]
    assert entries[2]["remine_negatives"] == 2 * len(set(pairs["anchor"]))
    assert -1 <= entries[2]["remine_score"] < entries[2]["remine_positive_score"] <= 1


def test_the_training_is_otherwise_the_same(tmp_path, model_of, pairs):
    """If the negatives do not change, training equals training on a data set of their texts."""
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
    """Worker processes see what the main process sees; accumulation starts no extra epoch."""
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
    """The sampler and the collator read current texts, even if a dict contains the data set."""
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


def test_triplets_drawn_at_random(tmp_path, tiny_model, pairs):
    """Each epoch draws with its own seed."""
    conditions = {"num_negatives": 1, "strategy": "random", "range_min": 1, "range_max": 8}
    remine = RemineCallback(pairs, tiny_model, seed=5, **conditions)
    spy = Spy(remine, [])
    train(tmp_path, tiny_model, None, remine.dataset, TripletLoss, [remine, spy], learning_rate=0.0)
    drawn = [[[row["negative_1"]] for row in rows] for rows in spy.rows]
    for epoch in range(3):
        assert drawn[epoch] == expected(spy.rows[epoch], spy.embedded[epoch], seed=5 + epoch, **conditions)
    assert drawn[0] != drawn[1] != drawn[2]


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
    assert (mined.hard_indices < 0).any()  # some anchors have only two, and repeat the first
    for row in remine.dataset:
        query = anchors.index(row["anchor"])
        own = [passages[i] for i in (*mined.hard_indices[query], *mined.semi_hard_indices[query]) if i >= 0]
        assert [row[name] for name in remine.columns] == (own * 3)[:3]
    assert remine.last.filled == 3 * len(anchors) - remine.last.negatives > 0
    scores = np.concatenate([mined.hard_scores, mined.semi_hard_scores], axis=1)  # each negative is in one list
    assert remine.last.score == pytest.approx(np.nanmean(scores), abs=1e-5)


def test_prompts_of_mining(model_of, pairs, tmp_path, caplog):
    """Mining uses the given prompts; a warning reports other prompts of the trainer."""
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


def test_evaluation_data_with_changing_negatives_is_a_warning(tmp_path, tiny_model, pairs, caplog):
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
    with torch.no_grad():  # weights differ, so that only broadcasting makes the negatives equal
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    trainer_state, args = _state(), SentenceTransformerTrainingArguments(f"{folder}/{rank}", use_cpu=True)
    before = list(remine.dataset)
    remine.on_epoch_begin(args, trainer_state, None, model=model)
    own = RemineCallback(pairs, model, **CONDITIONS)
    np.savez(f"{folder}/{rank}.npz", rows=remine._lookup.rows, own=own._lookup.rows)
    assert list(remine.dataset) != before
    torch.distributed.destroy_process_group()


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
    """A random vector for each word; a text's embedding is the mean over its words."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    torch.manual_seed(0)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu")


def test_the_example_runs(tmp_path, capsys):
    path = Path(__file__).parents[4] / "docs" / "examples" / "remine.py"
    if not path.is_file():
        pytest.skip("the examples are not in this checkout")
    data = relkt.load_data("relkt-mini", languages=["en"])
    word_vectors(item.text for item in (*data.passages, *data.queries)).save(str(tmp_path / "encoder"))
    capsys.readouterr()
    arguments = ["--encoder", tmp_path / "encoder", "--languages", "en", "--epochs", "2", "--output", tmp_path / "out"]
    before, after = runpy.run_path(str(path))["main"]([str(argument) for argument in arguments])
    printed = capsys.readouterr().out
    assert f"P@1 of the development questions: {before:.3f} before, {after:.3f} after" in printed
    assert "epoch 2: " in printed
    assert (tmp_path / "out" / "modules.json").is_file()
