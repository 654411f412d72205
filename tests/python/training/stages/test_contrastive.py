"""The batches of the contrastive stage, and the weights that it keeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import Level, Passage, Query, RetrievalData
from relkt.encoders import encode_passages, encode_queries
from relkt.losses import contrastive_loss
from relkt.training import ContrastiveConfig, Progress, Stage, TrainConfig, train
from relkt.training.examples import Rows
from relkt.training.stages import Contrastive, Prepared

LANGUAGES = ("en", "de", "th")


def stage_of(
    model: SentenceTransformer, data: RetrievalData, *, level: Level = Level.PASSAGE, **stage: object
) -> Contrastive:
    table = {"batch_size": 3, "pseudo_questions": 0} | stage
    config = TrainConfig.from_dict({"stages": ["contrastive"], "level": level.value, "contrastive": table})
    return Contrastive(model, Prepared(data, config, LANGUAGES), Progress())


def distinct(data: RetrievalData) -> RetrievalData:
    """The data with a distinct text for each question."""
    return replace(data, queries=tuple(replace(q, text=f"{q.text} {q.id}") for q in data.queries))


def in_order(stage: Contrastive, epoch: int = 0) -> list[Rows]:
    return list(np.expand_dims(stage.examples(epoch), 1))


def documents_of(stage: Contrastive, epoch: int) -> list[list[int]]:
    return [stage.documents(*example) for example in stage.examples(epoch).tolist()]


def test_each_round_has_each_document_once_in_batches_of_nearly_the_same_size(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    stage = stage_of(tiny_model, tiny_data)
    examples = stage.examples(0)
    assert examples.shape == (stage.max_examples, 3) == (6, 3)  # 2 rounds: three languages, two at a time
    assert stage.examples_per_step == 1
    assert examples[:, :2].tolist() == [[0, 0]] * 3 + [[0, 1]] * 3
    for number in range(2):
        batches = [stage.documents(*example) for example in examples[examples[:, 1] == number].tolist()]
        assert sorted(d for batch in batches for d in batch) == list(range(8))
        assert sorted(map(len, batches)) == [2, 3, 3]
    assert documents_of(stage, 0) != documents_of(stage, 1)
    assert documents_of(stage, 0) == documents_of(stage_of(tiny_model, tiny_data), 0)


@pytest.mark.parametrize("level", [Level.PASSAGE, Level.DOCUMENT])
def test_questions_come_with_all_passages_of_their_documents(
    level: Level, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    stage = stage_of(tiny_model, tiny_data, level=level)
    documents = stage.documents(0, 0, 0)
    batch = stage.batch(stage.examples(0)[:1])
    texts = {p.text: p for p in tiny_data.passages}
    assert [texts[text].document for text in batch.passages] == [f"d{d}" for d in documents for _ in range(2)]
    query_of = {q.text: q for q in tiny_data.queries}
    assert len(batch.queries) == 3 * 3 * 2  # documents, questions, languages
    assert batch.targets["labelled"].tolist() == list(range(18))
    for text, row in zip(batch.queries, batch.targets["positive"].tolist(), strict=True):
        (positive,) = tiny_data.positives(query_of[text].id)
        assert texts[batch.passages[row]].id == positive
    assert batch.targets["excluded"].shape == (18, 6)
    assert not batch.targets["excluded"].any()
    assert len(batch.targets["document"]) == 0


@pytest.mark.parametrize("per_question", [1, 2, 3, 5])
def test_an_epoch_has_each_question_in_each_language(
    per_question: int, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    data = distinct(tiny_data)
    stage = stage_of(tiny_model, data, languages_per_question=per_question)
    batches = [stage.batch(example) for example in in_order(stage)]
    query_of = {q.text: q for q in data.queries}
    expected = {q.text for q in data.queries if q.split == "train"}
    counts = Counter(text for batch in batches for text in batch.queries)
    assert set(counts) == expected
    for batch in batches:
        together = Counter(query_of[text].parallel for text in batch.queries)
        assert set(together.values()) == {min(per_question, 3)}
        assert len(set(batch.queries)) == len(batch.queries)


def test_a_batch_depends_on_its_example_only(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    stage = stage_of(tiny_model, tiny_data, pseudo_questions=2)
    batches = [stage.batch(example) for example in in_order(stage, epoch=1)]
    other = stage_of(tiny_model, tiny_data, pseudo_questions=2)
    torch.manual_seed(3)
    for example, batch in reversed(list(zip(in_order(other, epoch=1), batches, strict=True))):
        again = other.batch(example)
        assert again.queries == batch.queries
        assert all(torch.equal(again.targets[name], value) for name, value in batch.targets.items())
    assert batches[0].queries != stage.batch(in_order(stage, epoch=2)[0]).queries


@pytest.mark.parametrize("parallel", [True, False])
def test_pseudo_questions_are_cut_from_their_passage_or_its_translations(
    parallel: bool, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    stage = stage_of(tiny_model, tiny_data, pseudo_questions=4, parallel_passages=parallel)
    english = {p.text: p.id for p in tiny_data.passages}
    questions = {q.text for q in tiny_data.queries}
    languages = set()
    for example in in_order(stage):
        batch = stage.batch(example)
        spans = [
            (text, row)
            for text, row in zip(batch.queries, batch.targets["positive"].tolist(), strict=True)
            if text not in questions
        ]
        assert Counter(passage for _, passage in spans) == dict.fromkeys(range(len(batch.passages)), 4)
        for text, passage in spans:
            own = batch.passages[passage]
            # A passage of four words is a span by itself.
            of = {"en": own} | {code: texts[english[own]] for code, texts in tiny_data.translations.items()}
            languages |= {code for code, source in of.items() if source == text}
            assert text in of.values()
    assert languages == ({"en", "de", "th"} if parallel else {"en"})


def two_passages_with_one_text() -> RetrievalData:
    return RetrievalData(
        "twins",
        (
            Passage("a1", "en0a en0b", "a"),
            Passage("a2", "en0c", "a"),
            Passage("b1", "en0a en0b", "b"),
            Passage("b2", "en1a", "b"),
            Passage("c1", "en2a", "c"),
        ),
        (Query("q", "en0a", "en", "q"), Query("r", "en1a", "en", "r")),
        {"q": {"a1": 1, "b2": 1}, "r": {"b2": 1}},
    )


def twins_stage(model: SentenceTransformer, **stage: Any) -> Contrastive:
    config = TrainConfig(contrastive=ContrastiveConfig(**stage))
    return Contrastive(model, Prepared(two_passages_with_one_text(), config, ("en",)), Progress())


def test_positives_and_their_copies_are_not_negatives(tiny_model: SentenceTransformer) -> None:
    stage = twins_stage(tiny_model, pseudo_questions=0, document_weight=1.0)
    batch = stage.batch_of(0, 0, [0, 1, 2])
    # b1 is a copy of a1, so there are four passages; then the three documents.
    documents = two_passages_with_one_text().candidates(Level.DOCUMENT).texts
    assert batch.passages == ["en0a en0b", "en0c", "en1a", "en2a", *documents]
    targets = batch.targets
    assert targets["labelled"].tolist() == [0, 1, 2]
    found = {
        (text, int(targets["positive"][row])): (
            int(targets["document"][row]),
            targets["excluded"][row].nonzero().flatten().tolist(),
            targets["excluded_documents"][row].nonzero().flatten().tolist(),
        )
        for row, text in enumerate(batch.queries)
    }
    assert found == {
        ("en0a", 0): (0, [2], [1]),  # positive a1 in a; its other positive b2 and b are excluded
        ("en0a", 2): (1, [0], [0]),
        ("en1a", 2): (1, [], []),
    }


def test_documents_without_any_anchor_are_in_no_batch(tiny_model: SentenceTransformer) -> None:
    for number, expected in ((0, [0, 1]), (1, [0, 1, 2])):
        stage = twins_stage(tiny_model, pseudo_questions=number)
        assert sorted(stage.documents(0, 0, 0)) == expected


def test_the_loss_module_calls_the_pure_function(tiny_model: SentenceTransformer) -> None:
    stage = twins_stage(tiny_model, pseudo_questions=0, document_weight=0.25, temperature=0.2)
    batch = stage.batch_of(0, 0, [0, 1, 2])
    targets = batch.targets
    tiny_model.eval()
    features = [tiny_model.preprocess(texts) for texts in (batch.queries, batch.passages)]
    with torch.no_grad():
        loss = stage.loss(features, targets)
    queries = torch.from_numpy(encode_queries(tiny_model, batch.queries))
    passages = torch.from_numpy(encode_passages(tiny_model, batch.passages))
    assert targets["excluded"].shape == (3, 4)
    assert targets["excluded_documents"].shape == (3, 3)
    expected = contrastive_loss(
        queries, passages[:4], targets["positive"], temperature=0.2, excluded=targets["excluded"]
    )
    expected += 0.25 * contrastive_loss(
        queries, passages[4:], targets["document"], temperature=0.2, excluded=targets["excluded_documents"]
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
def test_weights_are_averaged_with_the_share_that_is_best_on_dev(
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
) -> None:
    shares = (0.25, 0.5, 1.0)
    start = model_of().state_dict()
    weights, scores = {}, {}
    for share in shares:
        config = replace(
            tiny_config,
            stages=(Stage.CONTRASTIVE,),
            contrastive=replace(tiny_config.contrastive, tuned_shares=(share,)),
        )
        folder = tmp_path / str(share)
        weights[share] = train(model_of(), tiny_data, output_dir=folder, config=config).state_dict()
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        dev = [record for record in records if "dev_p1" in record]
        scores[share] = dev[-1]["dev_p1"] if share != 1.0 else max(record["dev_p1"] for record in dev)
    for share in shares[:2]:
        for name, value in weights[share].items():
            expected = start[name] + share * (weights[1.0][name] - start[name])
            assert torch.allclose(value, expected, atol=1e-6)
    config = replace(config, contrastive=replace(config.contrastive, tuned_shares=shares))
    chosen = train(model_of(), tiny_data, output_dir=tmp_path / "all", config=config).state_dict()
    best = max(shares, key=lambda share: scores[share])
    assert all(torch.equal(value, weights[best][name]) for name, value in chosen.items())


@pytest.mark.slow
def test_a_resumed_run_requires_the_same_translations_if_it_uses_them(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    untranslated = replace(tiny_data, translations={})
    for stages, differ in (((Stage.CONTRASTIVE,), True), ((Stage.WARMUP,), False)):
        config = replace(tiny_config, stages=stages)
        folder = tmp_path / stages[0].value
        train(model_of(), tiny_data, output_dir=folder, config=config)
        assert ("translations" in json.loads((folder / "run.json").read_text())) is differ
        other = replace(tiny_data, translations={"de": {"p0.0": "de0a"}})
        if differ:
            with pytest.raises(ValueError, match="translations: expected the one that the run in"):
                train(model_of(), other, output_dir=folder, resume=True)
            with pytest.raises(ValueError, match="translations: expected the one that the run in"):
                train(model_of(), untranslated, output_dir=folder, resume=True)
        else:
            train(model_of(), other, output_dir=folder, resume=True)
