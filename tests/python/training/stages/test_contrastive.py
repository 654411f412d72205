"""The batches of the contrastive stage, and the weights it ends with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import Level, Passage, Query, RetrievalData
from relkt.encoders import encode_passages, encode_queries
from relkt.losses import contrastive_loss
from relkt.training import ContrastiveConfig, Stage, TrainConfig, train
from relkt.training.examples import Rows, TrainingSet
from relkt.training.stages import Contrastive

LANGUAGES = ("en", "de", "th")


def plan_of(
    model: SentenceTransformer, data: RetrievalData, *, level: Level = Level.PASSAGE, **stage: object
) -> Contrastive:
    table = {"batch_size": 3, "pseudo_questions": 0} | stage
    config = TrainConfig.from_dict({"stages": ["contrastive"], "level": level.value, "contrastive": table})
    return Contrastive(model, TrainingSet(data, languages=LANGUAGES, level=level), config)


def distinct(data: RetrievalData) -> RetrievalData:
    """No two questions of equal text."""
    return replace(data, queries=tuple(replace(q, text=f"{q.text} {q.id}") for q in data.queries))


def in_order(plan: Contrastive, epoch: int = 0) -> list[Rows]:
    return list(np.expand_dims(plan.rows(epoch), 1))


def test_each_round_has_each_document_once_in_batches_of_nearly_the_same_size(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    plan = plan_of(tiny_model, tiny_data)
    rows = plan.rows(0)
    assert rows.shape == (plan.most_rows, 2 + 3) == (6, 5)  # 2 rounds: three languages, two at a time
    assert plan.rows_per_step == 1
    assert rows[:, :2].tolist() == [[0, 0]] * 3 + [[0, 1]] * 3
    for number in range(2):
        batches = [[d for d in row if d >= 0] for row in rows[rows[:, 1] == number, 2:].tolist()]
        assert sorted(d for batch in batches for d in batch) == list(range(8))
        assert sorted(map(len, batches)) == [2, 3, 3]
    assert not np.array_equal(plan.rows(0)[:, 2:], plan.rows(1)[:, 2:])
    assert np.array_equal(plan.rows(0), plan_of(tiny_model, tiny_data).rows(0))


@pytest.mark.parametrize("level", [Level.PASSAGE, Level.DOCUMENT])
def test_questions_come_with_all_passages_of_their_documents(
    level: Level, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    plan = plan_of(tiny_model, tiny_data, level=level)
    (row,) = plan.rows(0)[:1].tolist()
    piece = plan.piece(np.array([row]))
    texts = {p.text: p for p in tiny_data.passages}
    assert [texts[text].document for text in piece.passages] == [f"d{d}" for d in row[2:] for _ in range(2)]
    query_of = {q.text: q for q in tiny_data.queries}
    assert len(piece.queries) == 3 * 3 * 2  # documents, questions, languages
    for text, label in zip(piece.queries, piece.labels.tolist(), strict=True):
        (positive,) = tiny_data.positives(query_of[text].id)
        assert texts[piece.passages[label[1]]].id == positive
        assert label == [6, label[1], -1]


@pytest.mark.parametrize("per_question", [1, 2, 3, 5])
def test_an_epoch_has_each_question_in_each_language(
    per_question: int, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    data = distinct(tiny_data)
    plan = plan_of(tiny_model, data, languages_per_question=per_question)
    pieces = [plan.piece(row) for row in in_order(plan)]
    query_of = {q.text: q for q in data.queries}
    expected = {q.text for q in data.queries if q.split == "train"}
    counts = Counter(text for piece in pieces for text in piece.queries)
    assert set(counts) == expected
    for piece in pieces:
        together = Counter(query_of[text].parallel for text in piece.queries)
        assert set(together.values()) == {min(per_question, 3)}
        assert len(set(piece.queries)) == len(piece.queries)


def test_a_batch_depends_on_its_row_alone(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    plan = plan_of(tiny_model, tiny_data, pseudo_questions=2)
    pieces = [plan.piece(row) for row in in_order(plan, epoch=1)]
    other = plan_of(tiny_model, tiny_data, pseudo_questions=2)
    torch.manual_seed(3)
    for row, piece in reversed(list(zip(in_order(other, epoch=1), pieces, strict=True))):
        assert other.piece(row).queries == piece.queries
        assert torch.equal(other.piece(row).labels, piece.labels)
    assert pieces[0].queries != plan.piece(in_order(plan, epoch=2)[0]).queries


@pytest.mark.parametrize("parallel", [True, False])
def test_pseudo_questions_are_cut_from_their_passage_or_its_translations(
    parallel: bool, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    plan = plan_of(tiny_model, tiny_data, pseudo_questions=4, parallel_passages=parallel)
    english = {p.text: p.id for p in tiny_data.passages}
    questions = {q.text for q in tiny_data.queries}
    languages = set()
    for row in in_order(plan):
        piece = plan.piece(row)
        spans = [
            (text, int(label[1]))
            for text, label in zip(piece.queries, piece.labels, strict=True)
            if text not in questions
        ]
        assert Counter(passage for _, passage in spans) == dict.fromkeys(range(len(piece.passages)), 4)
        for text, passage in spans:
            own = piece.passages[passage]
            # Passages of four words are taken whole.
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


def test_positives_and_their_copies_are_no_negatives(tiny_model: SentenceTransformer) -> None:
    data = two_passages_with_one_text()
    config = TrainConfig(contrastive=ContrastiveConfig(pseudo_questions=0, document_weight=1.0))
    plan = Contrastive(tiny_model, TrainingSet(data, languages=("en",), level=Level.PASSAGE), config)
    piece = plan.piece(np.array([[0, 0, 0, 1, 2]]))
    # b1 is a1's copy, so there are four passages; then the three documents.
    assert piece.passages == ["en0a en0b", "en0c", "en1a", "en2a", *data.candidates(Level.DOCUMENT).texts]
    found = {(text, label[1]): label for text, label in zip(piece.queries, piece.labels.tolist(), strict=True)}
    assert found == {
        ("en0a", 0): [4, 0, 4, 2, 5],  # positive a1 in a; its other positive b2 and b are left out
        ("en0a", 2): [4, 2, 5, 0, 4],
        ("en1a", 2): [4, 2, 5, -1, -1],
    }


def test_documents_without_any_anchor_are_in_no_batch(tiny_model: SentenceTransformer) -> None:
    examples = TrainingSet(two_passages_with_one_text(), languages=("en",), level=Level.PASSAGE)
    for number, expected in ((0, [0, 1]), (1, [0, 1, 2])):
        config = TrainConfig(contrastive=ContrastiveConfig(pseudo_questions=number))
        plan = Contrastive(tiny_model, examples, config)
        assert sorted(plan.rows(0)[0, 2:].tolist()) == expected


def test_the_loss_module_calls_the_pure_function(tiny_model: SentenceTransformer) -> None:
    config = TrainConfig(contrastive=ContrastiveConfig(pseudo_questions=0, document_weight=0.25, temperature=0.2))
    examples = TrainingSet(two_passages_with_one_text(), languages=("en",), level=Level.PASSAGE)
    plan = Contrastive(tiny_model, examples, config)
    piece = plan.piece(np.array([[0, 0, 0, 1, 2]]))
    tiny_model.eval()
    features = [tiny_model.preprocess(texts) for texts in (piece.queries, piece.passages)]
    with torch.no_grad():
        loss = plan.loss(features, piece.labels)
    queries = torch.from_numpy(encode_queries(tiny_model, piece.queries))
    passages = torch.from_numpy(encode_passages(tiny_model, piece.passages))
    positive, excluded = piece.labels[:, 1], torch.zeros(3, 7, dtype=torch.bool)
    for row, label in enumerate(piece.labels.tolist()):
        excluded[row, [place for place in label[3:] if place >= 0]] = True
    expected = contrastive_loss(queries, passages[:4], positive, temperature=0.2, excluded=excluded[:, :4])
    documents = piece.labels[:, 2] - 4
    expected += 0.25 * contrastive_loss(queries, passages[4:], documents, temperature=0.2, excluded=excluded[:, 4:])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


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


def test_a_resumed_run_wants_the_same_translations_where_it_uses_them(
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
