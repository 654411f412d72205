"""Checks and warnings before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.training import Precision, Stage, TrainConfig, train
from relkt.training.preflight import check_device


@pytest.mark.parametrize("stage", [Stage.WARMUP, Stage.TRANSFER])
def test_warmup_and_transfer_need_english_questions(
    stage: Stage,
    tiny_model: SentenceTransformer,
    data_of: Callable[..., RetrievalData],
    tiny_data: RetrievalData,
    tmp_path: Path,
) -> None:
    queries = tuple(q for q in tiny_data.queries if q.language != "en")
    without = RetrievalData("few", tiny_data.passages, queries, {q.id: tiny_data.qrels[q.id] for q in queries})
    for data in (without, data_of(parallel=False)):
        with pytest.raises(ValueError, match=r'got none of 48 questions; load .*"en".*english_questions\.jsonl'):
            train(tiny_model, data, output_dir=tmp_path / "run", config=TrainConfig(stages=(stage,)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_teacher_needs_no_english_and_english_needs_no_translations(
    tiny_model: SentenceTransformer,
    data_of: Callable[..., RetrievalData],
    tiny_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, short = data_of(parallel=False), replace(tiny_config, teacher=replace(tiny_config.teacher, epochs=1))
    config = replace(short, stages=(Stage.TEACHER,))
    train(tiny_model, data, output_dir=tmp_path / "teacher", config=config)
    config = replace(short, stages=(Stage.WARMUP,), languages=("en",))
    train(tiny_model, data, output_dir=tmp_path / "english", config=config)
    assert "no English translation" not in caplog.text


def test_data_of_one_document_are_refused_before_any_work(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    passages = tuple(replace(p, document="all") for p in tiny_data.passages)
    data = RetrievalData("one", passages, tiny_data.queries, tiny_data.qrels)
    with pytest.raises(ValueError, match="expected candidates of other documents as negatives at level passage"):
        train(tiny_model, data, output_dir=tmp_path / "run", config=TrainConfig(stages=(Stage.TEACHER,)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("max_seq_length", "longer"), [(6, 0), (5, 16)])  # four words, [CLS] and [SEP]
def test_truncated_candidates_are_counted(
    max_seq_length: int,
    longer: int,
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiny_model.max_seq_length = max_seq_length
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    warning = f"{longer} of 16 candidates are longer than the encoder's max_seq_length of {max_seq_length} tokens"
    assert (warning in caplog.text) == bool(longer)
    assert ("candidates are longer" in caplog.text) == bool(longer)


@pytest.mark.slow
@pytest.mark.parametrize("document_weight", [0.0, 0.5])
def test_truncated_documents_are_counted_if_they_are_trained_on(
    document_weight: float,
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiny_model.max_seq_length = 9  # passages have 6 tokens, documents 10
    stage = replace(tiny_config.contrastive, document_weight=document_weight, epochs=1)
    config = replace(tiny_config, stages=(Stage.CONTRASTIVE,), contrastive=stage)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert "candidates are longer" not in caplog.text
    assert ("8 of 8 documents are longer than the encoder's" in caplog.text) == (document_weight > 0)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.DEV])
def test_a_language_without_questions_is_refused_before_any_work(
    split: Split, tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    queries = tuple(q for q in tiny_data.queries if not (q.language == "th" and q.split is split))
    data = RetrievalData("few", tiny_data.passages, queries, {q.id: tiny_data.qrels[q.id] for q in queries})
    with pytest.raises(ValueError, match=f"no query in th in the {split.value} split"):
        train(tiny_model, data, output_dir=tmp_path / "run", config=TrainConfig(languages=("en", "th")))
    with pytest.raises(ValueError, match="no query in xx in the"):
        train(tiny_model, data, output_dir=tmp_path / "run", config=TrainConfig(languages=("en", "xx")))
    assert not (tmp_path / "run").exists()


def test_float16_needs_a_gpu(tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path) -> None:
    config = TrainConfig.from_dict({"precision": "float16"})
    with pytest.raises(ValueError, match="precision: expected float32, bfloat16 or auto for a model on cpu"):
        train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_unsupported_bfloat16_and_other_gpus_are_refused(
    tiny_model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(SentenceTransformer, "device", property(lambda _: device))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match=r"precision: expected float32, float16 or auto, .* got bfloat16"):
        check_device(tiny_model, TrainConfig(precision=Precision.BFLOAT16))
    check_device(tiny_model, TrainConfig())
    device = torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"model: expected on the CPU or the first GPU, .* got on cuda:1"):
        check_device(tiny_model, TrainConfig())


def test_weights_in_half_precision_are_refused(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"model: expected float32 weights, got bfloat16 in 0\."):
        train(tiny_model.bfloat16(), tiny_data, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
