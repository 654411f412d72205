"""The texts, targets and loss of the distillation stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.encoders import encode_passages, encode_queries
from relkt.losses import alignment_loss, contrastive_loss, score_distillation_loss
from relkt.training import DistillationConfig, Progress, Stage, TrainConfig, train
from relkt.training.stages import Distillation, Prepared

CONFIG = TrainConfig(
    languages=("de",),
    parallel_languages=("th",),
    stages=(Stage.DISTILLATION,),
    distillation=DistillationConfig(
        epochs=3, batch_size=24, accumulation=3, learning_rate=3e-3, temperature=0.1, evaluations_per_epoch=2
    ),
)


def stage_of(model: SentenceTransformer, data: RetrievalData, **stage: object) -> Distillation:
    config = replace(CONFIG, distillation=replace(CONFIG.distillation, **stage))
    model.eval()
    return Distillation(model, Prepared(data, config, ("de",)), Progress())


def test_an_epoch_has_each_question_in_some_languages_and_shares_of_the_rest(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    stage = stage_of(tiny_model, tiny_data, languages_per_question=2, segment_share=0.25, passage_share=0.5)
    epochs = [stage.examples(epoch) for epoch in range(2)]
    for examples in epochs:
        # 8 topics of 3 training questions; 16 passages, of one sentence each.
        assert np.bincount(examples[:, 0]).tolist() == [48, 4, 8]
        assert len(np.unique(examples, axis=0)) == len(examples) <= stage.max_examples
    assert not np.array_equal(*epochs)
    assert np.array_equal(epochs[0], stage.examples(0))


def test_targets_are_the_teachers_embeddings_of_the_english_versions(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    questions = tuple(replace(q, text=f"{q.text} {q.id}") for q in tiny_data.queries)
    tiny_data = replace(tiny_data, queries=questions)  # with distinct texts
    stage = stage_of(tiny_model, tiny_data, languages_per_question=3, segment_share=1.0, passage_share=1.0)
    batch = stage.batch(stage.examples(0))
    english = {q.parallel: q.text for q in tiny_data.queries if q.language == "en"}
    english_of = {
        q.text: english[q.parallel] for q in tiny_data.queries if q.split is Split.TRAIN and q.text in batch.queries
    }
    for texts in tiny_data.translations.values():
        english_of |= {text: next(p.text for p in tiny_data.passages if p.id == key) for key, text in texts.items()}
    english_of |= {passage.text: passage.text for passage in tiny_data.passages}
    teacher = stage.loss.teacher_texts.numpy()
    wanted = dict(zip(english_of, encode_queries(tiny_model, list(english_of.values())), strict=True))
    for text, target in zip(batch.queries, batch.targets["text"].tolist(), strict=True):
        assert np.allclose(teacher[target], wanted[text], atol=1e-6)
    rows = {p.text: row for row, p in enumerate(tiny_data.passages)}
    assert batch.targets["passage"].tolist() == [rows[text] for text in batch.passages]
    assert len(batch.passages) == 16


def test_only_questions_in_trained_languages_and_english_have_positives(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    stage = stage_of(tiny_model, tiny_data, languages_per_question=3)
    batch = stage.batch(stage.examples(0))
    positives = {q.text: {int(p[1]) * 2 + int(p[3]) for p in tiny_data.qrels[q.id]} for q in tiny_data.queries}
    questions = {q.text: q.language for q in tiny_data.queries if q.split is Split.TRAIN}
    seen = set()
    positive_of = dict(zip(batch.targets["labelled"].tolist(), batch.targets["positive"].tolist(), strict=True))
    for row, text in enumerate(batch.queries):
        if row not in positive_of:
            assert questions.get(text, "th") in ("th",) or text not in questions
        else:
            seen.add(questions[text])
            assert positive_of[row] in positives[text]
    assert seen == {"en", "de"}


def test_the_loss_is_the_sum_of_its_terms(tiny_model: SentenceTransformer, tiny_data: RetrievalData) -> None:
    stage = {"embedding_weight": 2.0, "score_weight": 3.0, "label_weight": 0.5, "passage_share": 1.0}
    stage = stage_of(tiny_model, tiny_data, languages_per_question=3, **stage)
    batch = stage.batch(stage.examples(0))
    torch.manual_seed(0)
    with torch.no_grad():  # moves the student away from the teacher
        for weights in tiny_model.parameters():
            weights += 0.05 * torch.randn_like(weights)
    features = [tiny_model.preprocess(texts) for texts in (batch.queries, batch.passages)]
    with torch.no_grad():
        loss = stage.loss(features, batch.targets)
    queries = torch.from_numpy(encode_queries(tiny_model, batch.queries))
    passages = torch.from_numpy(encode_passages(tiny_model, batch.passages))
    targets, labelled = batch.targets, batch.targets["labelled"]
    teacher = stage.loss.teacher_passages
    wanted = stage.loss.teacher_texts[targets["text"]]
    share = len(queries) / batch.size
    expected = 2 * alignment_loss(torch.cat([queries, passages]), torch.cat([wanted, teacher[targets["passage"]]]))
    expected += 3 * score_distillation_loss(queries, wanted, teacher, temperature=0.1) * share
    contrast = contrastive_loss(queries[labelled], teacher, targets["positive"], temperature=0.1)
    expected += 0.5 * contrast * len(labelled) / batch.size
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_score_distillation_by_hand() -> None:
    passages = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    student, teacher = torch.tensor([[0.0, 3.0]]), torch.tensor([[5.0, 0.0]])
    # p = softmax(1, 0), q = softmax(0, 1): the divergence is (p1 - p2) * 1.
    p1 = np.e / (1 + np.e)
    loss = score_distillation_loss(student, teacher, passages, temperature=1.0)
    assert loss.item() == pytest.approx(p1 - (1 - p1))
    assert score_distillation_loss(teacher, teacher, passages, temperature=0.02).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match=r"passage: expected a non-empty matrix \(n, 2\), got the shape \(2, 3\)"):
        score_distillation_loss(student, teacher, torch.ones(2, 3), temperature=1.0)
    with pytest.raises(ValueError, match="temperature: expected a number above 0, got 0"):
        score_distillation_loss(student, teacher, passages, temperature=0)


@pytest.mark.slow
def test_a_run_lowers_the_loss(tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path) -> None:
    class Losses(Progress):
        def __init__(self) -> None:
            self.values: list[float] = []

        def step(self, loss: float) -> None:
            self.values.append(loss)

    losses = Losses()
    config = replace(CONFIG, distillation=replace(CONFIG.distillation, epochs=8, tuned_shares=(1.0, 0.5)))
    train(tiny_model, tiny_data, output_dir=tmp_path, config=config, progress=losses)
    assert np.mean(losses.values[-6:]) < 0.9 * np.mean(losses.values[:6])
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"temperature": 0}, "temperature: expected a number above 0"),
        ({"score_weight": -1}, "score_weight: expected a number of at least 0"),
        ({"embedding_weight": 0, "score_weight": 0, "label_weight": 0}, "a weight above 0 for at least one term"),
        ({"languages_per_question": 0}, "languages_per_question: expected an integer of at least 1"),
        ({"segment_share": 1.5}, r"segment_share: expected a number in \[0, 1\]"),
        ({"tuned_shares": []}, r"tuned_shares: expected numbers in \(0, 1\]"),
    ],
)
def test_bad_configurations_are_refused(stage: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict({"distillation": stage})


def test_other_positives_and_their_copies_are_not_negatives(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    query = next(q for q in tiny_data.queries if q.language == "de" and q.split is Split.TRAIN)
    rows = {p.id: row for row, p in enumerate(tiny_data.passages)}
    (first,) = tiny_data.qrels[query.id]
    other = next(passage for passage in rows if passage[1] != first[1])
    copy = tiny_data.passages[-1]
    data = replace(
        tiny_data,
        passages=(*tiny_data.passages[:-1], replace(copy, text=tiny_data.passages[rows[other]].text)),
        qrels={**tiny_data.qrels, query.id: {first: 1, other: 1}},
    )
    stage = stage_of(tiny_model, data, languages_per_question=3)
    batch = stage.batch(stage.examples(0))
    targets = batch.targets
    found = [n for n, row in enumerate(targets["labelled"].tolist()) if batch.queries[row] == query.text]
    both = {rows[first], rows[other], rows[copy.id]}
    positive = targets["positive"].tolist()
    assert {positive[n] for n in found} == {rows[first], rows[other]}
    pairs = targets["excluded"].tolist()
    assert all({positive[n], *(row for line, row in pairs if line == n)} == both for n in found)
    excluded = torch.zeros(1, 16, dtype=torch.bool)
    excluded[0, sorted(both - {rows[first]})] = True
    alone = next(n for n in found if positive[n] == rows[first])
    single = {
        "text": torch.tensor([0]),
        "passage": torch.tensor([], dtype=torch.int64),
        "labelled": torch.tensor([0]),
        "positive": targets["positive"][alone : alone + 1],
        "excluded": torch.tensor([[0, row] for line, row in pairs if line == alone]),
    }
    loss = stage.loss
    loss.config = replace(loss.config, embedding_weight=0.0, score_weight=0.0, label_weight=1.0)
    text = torch.randn(1, loss.teacher_passages.shape[1])
    expected = contrastive_loss(text, loss.teacher_passages, single["positive"], temperature=0.1, excluded=excluded)
    assert loss.loss(text, text[:0], single).item() == pytest.approx(expected.item())


def test_parallel_questions_without_english_are_skipped(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, caplog: pytest.LogCaptureFixture
) -> None:
    lost = next(q for q in tiny_data.queries if q.language == "en" and q.split is Split.TRAIN)
    queries = tuple(q for q in tiny_data.queries if q is not lost)
    qrels = {q.id: tiny_data.qrels[q.id] for q in queries}
    stage = stage_of(tiny_model, replace(tiny_data, queries=queries, qrels=qrels), languages_per_question=3)
    assert "1 of 24 questions in th have no English translation; skipping them" in caplog.text
    texts = stage.batch(stage.examples(0)).queries
    (thai,) = (q.text for q in queries if q.language == "th" and q.parallel == lost.parallel)
    (german,) = (q.text for q in queries if q.language == "de" and q.parallel == lost.parallel)
    assert german in texts
    assert texts.count(thai) == sum(q.text == thai and q.split is Split.TRAIN for q in queries) - 1
