"""The transfer stage with another model as the teacher: targets, projection, translations of passages, whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from relkt.data.types import Level, RetrievalData, Split
from relkt.encoders import encode_passages, encode_queries, load_encoder
from relkt.encoders.origin import note_origin
from relkt.evaluation import evaluate_embeddings
from relkt.losses import Reduction, transfer_loss
from relkt.training import Progress, Stage, TrainConfig, TransferConfig, train
from relkt.training.model.weights import load_weights
from relkt.training.stages import Prepared, Transfer
from relkt.training.stages.transfer import TransferStageLoss

LANGUAGES = ("en", "de", "th")
MakeModel = Callable[..., SentenceTransformer]


def prepared_of(
    data: RetrievalData, config: TrainConfig | None = None, teacher: SentenceTransformer | None = None
) -> Prepared:
    return Prepared(data, config or TrainConfig(), LANGUAGES, teacher)


@pytest.fixture
def wide(model_of: MakeModel) -> SentenceTransformer:
    """A model with more dimensions than the student, and with prompts."""
    return model_of(seed=9, width=24, prompts={"query": "query : ", "document": "text : "})


def test_the_targets_are_the_other_models_with_its_prompts(
    tiny_model: SentenceTransformer, wide: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    prepared = prepared_of(tiny_data, teacher=wide)
    training_set = prepared.training_set()
    transfer = Transfer(tiny_model, prepared, Progress())
    loss = transfer.loss
    assert isinstance(loss, TransferStageLoss)
    english = [f"query : {training_set.english[q]}" for q in (5, 1, 4)]
    rows = transfer.batch(transfer.examples(0)[[5, 1, 4]]).targets["teacher_query"]
    unit = wide.encode(english, normalize_embeddings=True)
    np.testing.assert_allclose(loss.teacher_queries[rows].numpy(), unit, atol=1e-6)
    prompted = [f"text : {text}" for text in training_set.candidates.texts]
    unit = wide.encode(prompted, normalize_embeddings=True)
    np.testing.assert_allclose(loss.teacher_passages.numpy(), unit, atol=1e-6)


def test_the_projection_starts_as_the_least_squares_map(
    tiny_model: SentenceTransformer, wide: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    prepared = prepared_of(tiny_data, teacher=wide)
    training_set = prepared.training_set()
    questions, passages = list(dict.fromkeys(training_set.english)), list(training_set.candidates.texts)
    source = np.concatenate([encode_queries(tiny_model, questions), encode_passages(tiny_model, passages)])
    target = np.concatenate([encode_queries(wide, questions), encode_passages(wide, passages)])
    Transfer(tiny_model, prepared, Progress())
    assert [type(module) for module in tiny_model][2:] == [Normalize, Dense, Normalize]
    assert tiny_model.get_embedding_dimension() == 24

    s, t = (m.astype(np.float64) - m.mean(axis=0, dtype=np.float64) for m in (source, target))
    r = TransferConfig().projection_ridge * np.square(s).sum() / 16
    rows = np.concatenate([s, np.sqrt(r) * np.eye(16)])
    weights = np.linalg.lstsq(rows, np.concatenate([t, np.zeros((16, 24))]), rcond=None)[0].T
    bias = target.mean(axis=0, dtype=np.float64) - weights @ source.mean(axis=0, dtype=np.float64)
    dense = tiny_model[3]
    np.testing.assert_allclose(dense.linear.weight.detach().numpy(), weights, atol=1e-5)
    np.testing.assert_allclose(dense.linear.bias.detach().numpy(), bias, atol=1e-5)
    projected = source @ weights.T + bias
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(encode_queries(tiny_model, questions), projected[: len(questions)], atol=1e-5)
    # Closer to the teacher than a constant map.
    constant = target.mean(axis=0) / np.linalg.norm(target.mean(axis=0))
    assert (projected * target).sum(axis=1).mean() > (target @ constant).mean()


@pytest.mark.parametrize("always", [False, True])
def test_a_teacher_of_the_same_width_needs_no_projection(
    always: bool, tiny_model: SentenceTransformer, model_of: MakeModel, tiny_data: RetrievalData
) -> None:
    config = TrainConfig(transfer=TransferConfig(always_project=always))
    Transfer(tiny_model, prepared_of(tiny_data, config, model_of(seed=9)), Progress())
    assert len(tiny_model) == (5 if always else 2)


def test_without_another_teacher_there_is_no_projection(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    config = TrainConfig(transfer=TransferConfig(always_project=True))
    Transfer(tiny_model, prepared_of(tiny_data, config), Progress())
    assert len(tiny_model) == 2


@pytest.mark.parametrize("reduction", list(Reduction))
def test_translations_of_passages_follow_the_passages(
    reduction: Reduction, tiny_model: SentenceTransformer, tiny_data: RetrievalData
) -> None:
    translations = {"de": dict(tiny_data.translations["de"]), "th": dict(tiny_data.translations["th"])}
    del translations["th"]["p0.1"]
    data = replace(tiny_data, translations=translations)
    stage = TransferConfig(parallel_passages=True, query_query=0.5, reduction=reduction)
    prepared = prepared_of(data, TrainConfig(transfer=stage))
    training_set = prepared.training_set()
    transfer = Transfer(tiny_model, prepared, Progress())
    asked = {(q.id[1:4], q.language): row for row, q in enumerate(training_set.queries)}
    chosen = [asked["0.1", "de"], asked["0.1", "th"], asked["0.1", "en"], asked["0.0", "th"], asked["0.2", "th"]]
    rows = np.array([[row, training_set.positives(row)[0]] for row in chosen], dtype=np.int64)
    batch = transfer.batch(rows)
    targets = batch.targets
    # Two passages, and the existing translations, each once: p0.0 in Thai, p0.1 in German.
    assert batch.passages == [
        *(p.text for p in data.passages[:2]), translations["de"]["p0.1"], translations["th"]["p0.0"],
    ]  # fmt: skip
    assert targets["passage"].tolist() == [1, 1, 1, 0, 0]
    assert targets["translated"].tolist() == [0, 3, 4]
    assert targets["translation"].tolist() == [2, 3, 3]

    rng = torch.Generator().manual_seed(0)
    queries, passages = torch.randn(5, 16, generator=rng), torch.randn(4, 16, generator=rng)
    loss = transfer.loss
    assert isinstance(loss, TransferStageLoss)
    weights = {"query_query": 0.5, "passage_passage": 1.0, "query_passage": 0.01, "scale": 1000.0}
    teacher = loss.teacher_queries[targets["teacher_query"]], loss.teacher_passages[targets["teacher_passage"]]
    plain = transfer_loss(queries, passages[targets["passage"]], *teacher, **weights, reduction=reduction)
    unit = torch.nn.functional.normalize(passages, dim=1)
    errors = [
        (unit[translation] - loss.teacher_passages[row]).square().mean()
        for row, translation in ((1, 2), (0, 3), (0, 3))
    ]
    extra = 1000 * sum(errors) / (1 if reduction is Reduction.SUM else 5)
    torch.testing.assert_close(loss.loss(queries, passages, targets), plain + extra)
    # The micro-batch losses add up to the batch loss.
    if reduction is Reduction.SUM:
        parts = [
            loss.loss(queries[part], passages[used], transfer.batch(rows[part]).targets)
            for part, used in ((slice(0, 3), [1, 2]), (slice(3, 5), [0, 3]))
        ]
        torch.testing.assert_close(sum(parts), plain + extra)


def test_a_document_is_translated_if_all_of_its_passages_are(tiny_data: RetrievalData) -> None:
    translations = {"de": dict(tiny_data.translations["de"]), "fr": {"p0.0": "un"}}
    del translations["de"]["p1.0"]
    config = TrainConfig(level=Level.DOCUMENT)
    found = prepared_of(replace(tiny_data, translations=translations), config).training_set().translations
    assert found["de"][0] == f"{translations['de']['p0.0']}\n\n{translations['de']['p0.1']}"
    assert set(found["de"]) == {0, 2, 3, 4, 5, 6, 7}
    assert set(found) == {"de"}  # French is not trained


def found_with_the_teachers_index(
    student: SentenceTransformer, teacher: SentenceTransformer, data: RetrievalData
) -> float:
    """P@1 of train questions against passages that the teacher embedded."""
    selected = data.select(split=Split.TRAIN)
    questions = encode_queries(student, [q.text for q in selected.queries])
    passages = encode_passages(teacher, [p.text for p in data.passages])
    return evaluate_embeddings(questions, passages, selected, num_resamples=0).average("P@1").value


@pytest.mark.slow
def test_a_run_ends_in_the_teachers_space(
    tiny_model: SentenceTransformer, wide: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    class Losses(Progress):
        def __init__(self) -> None:
            self.values: list[float] = []

        def step(self, loss: float) -> None:
            self.values.append(loss)

    before = {name: value.clone() for name, value in wide.state_dict().items()}
    note_origin(wide, "/somewhere/teacher")
    config = TrainConfig.from_dict(
        {
            "stages": ["transfer"],
            "transfer": {
                "epochs": 12,
                "learning_rate": 5e-3,
                "evaluations_per_epoch": 1,
                "query_query": 1.0,
                "query_passage": 1.0,
                "parallel_passages": True,
            },
        }
    )
    progress = Losses()
    model = train(tiny_model, tiny_data, output_dir=tmp_path, config=config, teacher=wide, progress=progress)
    assert np.mean(progress.values[-5:]) < 0.7 * np.mean(progress.values[:5])
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())
    start = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert (start["step"], start["epoch"]) == (0, 0)
    share = found_with_the_teachers_index(model, wide, tiny_data)
    # Eight topics have two passages each: by chance, P@1 is 1 / 16.
    assert share > 0.3

    texts = [p.text for p in tiny_data.passages]
    expected = model.encode(texts)
    assert expected.shape == (16, 24)
    for loaded in (
        load_encoder(tmp_path / "model", device="cpu"),
        SentenceTransformer(str(tmp_path / "model"), device="cpu"),
    ):
        np.testing.assert_array_equal(loaded.encode(texts), expected)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "The teacher of the transfer is another model: a model in a folder named `teacher`." in card
    assert "into 24 dimensions" in card
    assert "Translations of the passages into de and th are trained on too." in card


def test_weights_of_a_projected_model_are_loaded_into_one_without(
    model_of: MakeModel, wide: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    projected, plain = model_of(), model_of(seed=1)
    Transfer(projected, prepared_of(tiny_data, teacher=wide), Progress())
    projected.save_pretrained(str(tmp_path), create_model_card=False)
    load_weights(plain, tmp_path)
    loaded, saved = plain.state_dict(), projected.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.items())


def test_unusable_teachers_are_refused(
    tiny_model: SentenceTransformer, wide: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"teacher: expected None, because .* nor a transfer stage.*warmup"):
        train(tiny_model, tiny_data, output_dir=out, config=TrainConfig(stages=(Stage.WARMUP,)), teacher=wide)
    with pytest.raises(TypeError, match=r"teacher: expected a SentenceTransformer, .* got 'e5'"):
        train(tiny_model, tiny_data, output_dir=out, teacher="e5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="teacher: expected another model than the one trained"):
        train(tiny_model, tiny_data, output_dir=out, teacher=tiny_model)
    tiny_model.truncate_dim = 8
    with pytest.raises(ValueError, match="model: expected a model without truncated embeddings, got truncate_dim = 8"):
        train(tiny_model, tiny_data, output_dir=out, teacher=wide)
    assert not out.exists()


@pytest.mark.parametrize("ridge", [0.0, -1.0])
def test_the_ridge_is_above_0(ridge: float) -> None:
    with pytest.raises(ValueError, match=r"transfer\.projection_ridge: expected a number above 0"):
        TransferConfig(projection_ridge=ridge)
