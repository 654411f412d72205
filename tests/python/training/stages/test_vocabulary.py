"""The vocabulary stage, and languages used for their parallel texts only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.encoders import MuseEncoder, encode_queries, load_encoder
from relkt.encoders.muse_network import MuseConfig
from relkt.encoders.muse_tokenizer import unigram_tokenizer, vocabulary
from relkt.losses import alignment_loss, contrastive_loss
from relkt.training import ContrastiveConfig, Stage, TrainConfig, VocabularyConfig, train
from relkt.training.progress import Progress
from relkt.training.stages import Contrastive, Prepared
from relkt.training.stages.vocabulary import parallel_texts

TO_GREEK = str.maketrans("abcdefth", "αβγδεζθη")


def make_muse() -> SentenceTransformer:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -3.0), *((letter, -6.0) for letter in letters)]
    config = MuseConfig(vocab_size=len(pieces), embedding_dim=12, ngram_dim=8, hidden_dim=10, output_dim=6)
    encoder = MuseEncoder(unigram_tokenizer(pieces), config)
    torch.manual_seed(0)
    encoder.network.reset_parameters()
    return SentenceTransformer(modules=[encoder], device="cpu", similarity_fn_name="cosine")


@pytest.fixture
def greek_data(tiny_data: RetrievalData) -> RetrievalData:
    """The tiny data set with Thai in Greek letters, which the tiny mUSE has no pieces for."""
    return replace(
        tiny_data,
        queries=tuple(
            replace(q, text=q.text.translate(TO_GREEK)) if q.language == "th" else q for q in tiny_data.queries
        ),
        translations={
            **tiny_data.translations,
            "th": {key: text.translate(TO_GREEK) for key, text in tiny_data.translations["th"].items()},
        },
    )


CONFIG = TrainConfig(
    languages=("en", "de"),
    parallel_languages=("th",),
    stages=(Stage.VOCABULARY, Stage.CONTRASTIVE),
    vocabulary=VocabularyConfig(num_pieces=80),
    contrastive=ContrastiveConfig(epochs=2, batch_size=4, learning_rate=1e-2, pseudo_questions=1),
)


class Interrupted(Exception):
    pass


class Stops(Progress):
    """Interrupts a run at a stage or at an activity."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:  # noqa: ARG002
        if stage.value == self.moment:
            raise Interrupted

    def activity(self, name: str) -> None:
        if name == self.moment:
            raise Interrupted


@pytest.mark.slow
def test_a_run_extends_the_vocabulary_and_continues(greek_data: RetrievalData, tmp_path: Path) -> None:
    model = train(make_muse(), greek_data, output_dir=tmp_path, config=CONFIG)
    pieces = vocabulary(model[0].tokenizer)
    assert {f"▁θη{topic}α" for topic in range(8)} <= set(pieces)
    saved = load_encoder(tmp_path / "model", device="cpu")
    texts = [q.text for q in greek_data.queries[:9]]
    assert np.array_equal(encode_queries(saved, texts), encode_queries(model, texts))
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(results) == ["before", "vocabulary", "contrastive"]
    question = next(q.text for q in greek_data.queries if q.language == "th")
    assert 0 in make_muse()[0].tokenize_texts([question])[0]
    assert 0 not in model[0].tokenize_texts([question])[0]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["stage"] == "vocabulary"
    assert list(lines[0]["dev"]["P@1"]) == ["en", "de"]


@pytest.mark.slow
def test_a_run_interrupted_after_the_vocabulary_ends_the_same(greek_data: RetrievalData, tmp_path: Path) -> None:
    whole = train(make_muse(), greek_data, output_dir=tmp_path / "whole", config=CONFIG)
    for moment in ("aligning words", "contrastive"):
        with pytest.raises(Interrupted):
            train(
                make_muse(), greek_data, output_dir=tmp_path / "cut", config=CONFIG, resume=True, progress=Stops(moment)
            )
    model = train(make_muse(), greek_data, output_dir=tmp_path / "cut", resume=True)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, model.state_dict()[name])
    for name in ("metrics.jsonl", "results.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_parallel_texts_are_questions_and_passages_in_sentences(greek_data: RetrievalData) -> None:
    passage = greek_data.passages[0]
    data = replace(
        greek_data,
        passages=(replace(passage, text="en0a. en0b? en0c!"), *greek_data.passages[1:]),
        translations={"th": {passage.id: "α. β? γ!", greek_data.passages[1].id: "α. β"}},
    )
    found = parallel_texts(data, ("th",))["th"]
    questions = [q for q in data.queries if q.language == "th" and q.split is Split.TRAIN]
    english = {q.parallel: q.text for q in data.queries if q.language == "en"}
    assert found[: len(questions)] == [(q.text, english[q.parallel]) for q in questions]
    assert found[len(questions) :] == [
        ("α.", "en0a."),
        ("β?", "en0b?"),
        ("γ!", "en0c!"),
        ("α. β", data.passages[1].text),
    ]


def test_questions_of_parallel_languages_follow_english_without_labels(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    config = replace(CONFIG, stages=(Stage.CONTRASTIVE,), contrastive=replace(CONFIG.contrastive, pseudo_questions=0))
    stage = Contrastive(tiny_model, Prepared(tiny_data, config, ("en", "de")), Progress())
    batch = stage.batch_of(0, 0, [0, 3])
    targets = batch.targets
    thai = {q.text: q.parallel for q in tiny_data.queries if q.language == "th" and q.split is Split.TRAIN}
    english = {q.parallel: q.text for q in tiny_data.queries if q.language == "en"}
    of_documents = {text for text, parallel in thai.items() if parallel[1] in "03"}
    assert {batch.queries[row] for row in targets["follower"].tolist()} == of_documents
    for row, followed in zip(targets["follower"].tolist(), targets["followed"].tolist(), strict=True):
        assert batch.queries[followed] == english[thai[batch.queries[row]]]
    # No Thai question has a positive.
    assert all(batch.queries[row] not in thai for row in targets["labelled"].tolist())

    tiny_model.eval()
    features = [tiny_model.preprocess(texts) for texts in (batch.queries, batch.passages)]
    with torch.no_grad():
        loss = stage.loss(features, targets)
        queries, passages = (tiny_model(f)["sentence_embedding"] for f in features)
    expected = contrastive_loss(queries[targets["labelled"]], passages, targets["positive"], temperature=0.05)
    expected += alignment_loss(queries[targets["follower"]], queries[targets["followed"]])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_gradient_flows_to_the_followed_question() -> None:
    student, teacher = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([[0.0, 2.0]], requires_grad=True)
    loss = alignment_loss(student, teacher)
    assert loss.item() == pytest.approx(2 - 2 * 0.8)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_questions_without_english_are_skipped_with_a_warning(
    tiny_model: SentenceTransformer, data_of: Callable[..., RetrievalData], caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(parallel=False)
    stage = Contrastive(tiny_model, Prepared(data, CONFIG, ("en", "de")), Progress())
    assert "24 of 24 questions in th have no English translation; skipping them" in caplog.text
    assert len(stage.batch(stage.examples(0)[:1]).targets["follower"]) == 0


def test_impossible_vocabularies_are_refused_before_any_work(
    tiny_model: SentenceTransformer, greek_data: RetrievalData, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the vocabulary stage expected mUSE, got a model with another encoder"):
        train(tiny_model, greek_data, output_dir=tmp_path / "run", config=CONFIG)
    questions = tuple(q for q in greek_data.queries if q.language != "en")
    qrels = {q.id: greek_data.qrels[q.id] for q in questions}
    bare = replace(greek_data, translations={}, queries=questions, qrels=qrels)
    config = replace(CONFIG, languages=("de",))
    with pytest.raises(ValueError, match="has no training question or passage in de that also exists in English"):
        train(make_muse(), bare, output_dir=tmp_path / "run", config=config)
    with pytest.raises(ValueError, match="has no query in vi in the train split"):
        train(make_muse(), greek_data, output_dir=tmp_path / "run", config=replace(CONFIG, parallel_languages=("vi",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"languages": ["de"], "parallel_languages": ["th", "th"]}, "each language once"),
        ({"parallel_languages": ["th"]}, r"none where languages is empty \(all\)"),
        ({"languages": ["de"], "parallel_languages": ["de"]}, "neither en nor one of languages"),
        ({"languages": ["de"], "parallel_languages": ["en"]}, "neither en nor one of languages"),
        ({"vocabulary": {"num_pieces": 0}}, "num_pieces: expected an integer of at least 1"),
        ({"vocabulary": {"languages": ["en"]}}, "each language once, and not en"),
        ({"contrastive": {"transfer_weight": -1}}, "transfer_weight: expected a number of at least 0"),
    ],
)
def test_bad_configurations_are_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(table)
