"""The evaluator, compared with the original of sentence-transformers."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import SimilarityFunction, cos_sim, dot_score

from relkt.integrations.sentence_transformers import RetrievalEvaluator

Texts = dict[str, str]


def make_data(seed: int = 0, passages: int = 150) -> tuple[Texts, Texts, dict[str, set[str]]]:
    rng = random.Random(seed)
    corpus = {f"p{n}": " ".join(f"w{rng.randrange(60)}" for _ in range(6)) for n in rng.sample(range(1000), passages)}
    queries = {f"q{n}": " ".join(f"w{rng.randrange(60)}" for _ in range(3)) for n in range(40)}
    relevant = {query: set(rng.sample(list(corpus), rng.randrange(4))) for query in queries}
    relevant["q0"] = {"p_not_there", next(iter(corpus))}
    return queries, corpus, relevant


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "dev", "corpus_chunk_size": 7},
        {
            "mrr_at_k": [3, 200],
            "ndcg_at_k": [5],
            "accuracy_at_k": [2],
            "precision_recall_at_k": [1, 4],
            "map_at_k": [9],
        },
        {"truncate_dim": 5, "query_prompt": "w1 ", "corpus_prompt": "w2 ", "batch_size": 4},
        {"score_functions": {"a": cos_sim, "b": cos_sim}, "main_score_function": None},
        {"main_score_function": SimilarityFunction.COSINE},
    ],
)
def test_values_equal_the_original(model: SentenceTransformer, options: dict[str, Any]) -> None:
    data = make_data()
    evaluator, original = RetrievalEvaluator(*data, **options), InformationRetrievalEvaluator(*data, **options)
    found, expected = evaluator(model), original(model)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-12)
    assert evaluator.primary_metric == original.primary_metric
    assert evaluator.description == original.description
    assert 0 < found[evaluator.primary_metric] < 1


def test_files_equal_the_original(model: SentenceTransformer, tmp_path: Path) -> None:
    written: list[tuple[str, list[Any]]] = []
    for kind in (RetrievalEvaluator, InformationRetrievalEvaluator):
        folder = tmp_path / kind.__name__
        evaluator = kind(*make_data(), name="dev", write_predictions=True, map_at_k=[10])
        evaluator(model, output_path=str(folder), epoch=1, steps=2)
        evaluator(model, output_path=str(folder), epoch=2, steps=4)
        table = (folder / evaluator.csv_file).read_text()
        lines = (folder / "Information-Retrieval_evaluation_dev_predictions_cosine.jsonl").read_text().splitlines()
        written.append((table, [json.loads(line) for line in lines]))
    (table, predictions), (expected_table, expected) = written
    assert table == expected_table
    assert len(predictions) == len(expected) > 0
    for line, original in zip(predictions, expected, strict=True):
        assert {**line, "results": None} == {**original, "results": None}
        assert [hit["corpus_id"] for hit in line["results"]] == [hit["corpus_id"] for hit in original["results"]]
        scores = [hit["score"] for hit in original["results"]]
        assert [hit["score"] for hit in line["results"]] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("chunk", [2, 50])
def test_equal_passages_are_in_the_order_of_their_ids(model: SentenceTransformer, chunk: int) -> None:
    corpus = dict.fromkeys(["p9", "p1", "p5", "p3", "p7"], "w1 w2")
    values = [
        kind({"q": "w1"}, corpus, {"q": {"p3"}}, corpus_chunk_size=chunk, accuracy_at_k=[1, 2], mrr_at_k=[5])(model)
        for kind in (RetrievalEvaluator, InformationRetrievalEvaluator)
    ]
    assert values[0] == values[1]
    assert values[0]["cosine_mrr@5"] == 0.5


def test_given_embeddings_of_the_corpus(model: SentenceTransformer) -> None:
    data = make_data()
    evaluator = RetrievalEvaluator(*data, corpus_chunk_size=40)
    embeddings = model.encode_document(list(data[1].values()), convert_to_tensor=True)
    assert evaluator(model, corpus_embeddings=embeddings) == evaluator(model)
    assert evaluator(model, corpus_embeddings=embeddings.numpy()) == evaluator(model)


@pytest.mark.slow
def test_in_the_trainer(model: SentenceTransformer, tmp_path: Path) -> None:
    queries, corpus, relevant = make_data()
    evaluator = RetrievalEvaluator(queries, corpus, relevant, name="dev")
    pairs = Dataset.from_dict({"anchor": list(queries.values()), "positive": list(corpus.values())[: len(queries)]})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=2, eval_strategy="steps", eval_steps=1, report_to=[], save_strategy="no",
        per_device_train_batch_size=8, use_cpu=True, learning_rate=0.1, disable_tqdm=True,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=pairs, loss=MultipleNegativesRankingLoss(model), evaluator=evaluator
    )
    trainer.train()
    logged = [row["eval_dev_cosine_ndcg@10"] for row in trainer.state.log_history if "eval_dev_cosine_ndcg@10" in row]
    assert len(logged) == 2
    assert logged[-1] == evaluator(model)["dev_cosine_ndcg@10"]


def test_the_arguments_equal_the_original() -> None:
    assert inspect.signature(RetrievalEvaluator) == inspect.signature(InformationRetrievalEvaluator)


def test_only_the_cosine(model_of: Callable[..., SentenceTransformer]) -> None:
    data = make_data()
    with pytest.raises(ValueError, match=r"score_functions: expected .*cos_sim, got .* for 'dot'"):
        RetrievalEvaluator(*data, score_functions={"dot": dot_score})
    with pytest.raises(ValueError, match="main_score_function: expected one of 'cosine', got 'dot'"):
        RetrievalEvaluator(*data, main_score_function="dot")
    dot = model_of(similarity="dot")
    with pytest.raises(ValueError, match="model: expected similarity_fn_name 'cosine', got 'dot'"):
        RetrievalEvaluator(*data)(dot)
    assert RetrievalEvaluator(*data, score_functions={"cosine": cos_sim})(dot) == RetrievalEvaluator(*data)(model_of())


def test_nothing_to_evaluate_is_refused() -> None:
    queries, corpus, _ = make_data()
    with pytest.raises(ValueError, match="queries, relevant_docs: expected at least one query with a relevant"):
        RetrievalEvaluator(queries, corpus, {"q1": set()})
    with pytest.raises(ValueError, match="corpus: expected at least one passage"):
        RetrievalEvaluator(queries, {}, {"q1": {"p1"}})
