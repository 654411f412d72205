from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relkt.data.types import Level
from relkt.losses import Reduction
from relkt.training import (
    PRESETS,
    ContrastiveConfig,
    Precision,
    Schedule,
    Stage,
    TeacherConfig,
    TrainConfig,
    TransferConfig,
    WarmupConfig,
)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip_through_toml(name: str, tmp_path: Path) -> None:
    config = TrainConfig.preset(name)
    config.to_toml(tmp_path / "config.toml")
    assert TrainConfig.from_toml(tmp_path / "config.toml") == config


def test_a_configuration_far_from_the_defaults_survives_a_round_trip(tmp_path: Path) -> None:
    config = TrainConfig(
        languages=("en", "de"),
        level=Level.DOCUMENT,
        stages=(Stage.WARMUP, Stage.TRANSFER),
        seed=7,
        precision=Precision.BFLOAT16,
        freeze_embeddings=True,
        warmup=WarmupConfig(schedule=Schedule.COSINE, reduction=Reduction.MEAN, weight_decay=0.1),
    )
    config.to_toml(tmp_path / "config.toml")
    assert TrainConfig.from_toml(tmp_path / "config.toml") == config


def test_missing_keys_have_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[teacher]\nnum_hard = 4\n", encoding="utf-8")
    assert TrainConfig.from_toml(path) == TrainConfig(teacher=TeacherConfig(num_hard=4))


def test_paper_presets_have_the_values_of_paper_and_scripts() -> None:
    xquad, mlqa, xorqa = (TrainConfig.preset(f"paper-{name}") for name in ("xquad", "mlqa", "xorqa"))
    assert [c.warmup.margin for c in (xquad, mlqa, xorqa)] == [0.24, 0.13, 0.27]
    assert [c.teacher.margin for c in (xquad, mlqa, xorqa)] == [0.24, 0.13, 0.27]
    assert [(c.teacher.num_hard, c.teacher.num_semi_hard) for c in (xquad, mlqa, xorqa)] == [(1, 1), (1, 1), (2, 3)]
    assert xquad.languages == ("ar", "de", "es", "ru", "th", "tr", "zh")
    assert xquad.level is Level.DOCUMENT
    transfer = xquad.transfer
    assert (transfer.query_query, transfer.passage_passage, transfer.query_passage) == (0.001, 1.0, 0.01)
    for config in (xquad, mlqa, xorqa):
        assert config.stages == (Stage.WARMUP, Stage.TEACHER, Stage.TRANSFER)
        assert config.transfer.scale == 1000
        assert config.warmup.num_negatives == 3
        assert config.warmup.reduction is config.teacher.reduction is Reduction.SUM
        assert config.transfer.reduction is Reduction.MEAN
    assert [c.warmup.bm25_epochs for c in (xquad, mlqa, xorqa)] == [0, 3, 2]
    for config in (mlqa, xorqa):  # paper-xquad differs here, as its comments explain
        assert config.warmup.learning_rate == config.teacher.learning_rate == 1e-5
        assert config.teacher.halve_lr_every == 1
        assert config.teacher.patience == config.teacher.epochs / 5


def test_unknown_preset() -> None:
    with pytest.raises(
        ValueError, match=r"preset: expected one of best-muse, best-transformer, paper-xquad, .*, got 'paper'"
    ):
        TrainConfig.preset("paper")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epochs": 3}, "unknown key epochs; expected some of languages, parallel_languages, level"),
        ({"warmup": {"margn": 0.1, "x": 1}}, "unknown keys warmup.margn, warmup.x; expected some of"),
        ({"warmup": {"margin": 0}}, r"warmup.margin: expected a number in \(0, 2\], got 0.0"),
        ({"teacher": {"margin": 2.1}}, r"teacher.margin: expected a number in \(0, 2\], got 2.1"),
        ({"warmup": {"epochs": 0}}, "warmup.epochs: expected an integer of at least 1, got 0"),
        ({"warmup": {"epochs": "3"}}, "warmup.epochs: expected an integer, got '3'"),
        ({"warmup": {"epochs": True}}, "warmup.epochs: expected an integer, got True"),
        ({"warmup": {"epochs": 1.5}}, "warmup.epochs: expected an integer, got 1.5"),
        ({"warmup": 3}, "warmup: expected a table, got 3"),
        ({"warmup": {"epochs": 2, "min_epochs": 3}}, r"warmup.min_epochs: expected at most epochs \(2\), got 3"),
        ({"warmup": {"bm25_epochs": -1}}, "warmup.bm25_epochs: expected an integer of at least 0"),
        ({"teacher": {"learning_rate": 0}}, "teacher.learning_rate: expected a number above 0, got 0"),
        ({"teacher": {"learning_rate": float("nan")}}, "teacher.learning_rate: expected a finite number"),
        ({"teacher": {"num_hard": 0, "num_semi_hard": 0}}, "num_hard \\+ num_semi_hard of at least 1"),
        ({"teacher": {"batch_size": 4, "accumulation": 5}}, r"expected at most batch_size \(4\), got 5"),
        (
            {"contrastive": {"accumulation": 2}},
            "contrastive.accumulation: expected 1, because a batch is contrasted as a whole",
        ),
        ({"contrastive": {"temperature": 0}}, "contrastive.temperature: expected a number above 0, got 0.0"),
        ({"contrastive": {"languages_per_question": 0}}, "languages_per_question: expected an integer of at least 1"),
        ({"contrastive": {"pseudo_questions": -1}}, "pseudo_questions: expected an integer of at least 0, got -1"),
        ({"contrastive": {"document_weight": -1}}, "document_weight: expected a number of at least 0, got -1.0"),
        ({"contrastive": {"tuned_shares": []}}, r"tuned_shares: expected numbers in \(0, 1\], got \[\]"),
        ({"contrastive": {"tuned_shares": [0.5, 0]}}, r"tuned_shares: expected numbers in \(0, 1\], got \[0.5, 0.0\]"),
        ({"contrastive": {"tuned_shares": [0.5, 0.5]}}, r"tuned_shares: expected each share once, got \[0.5, 0.5\]"),
        ({"distillation": {"epochs": 0}}, "distillation.epochs: expected an integer of at least 1, got 0"),
        ({"vocabulary": {"num_pieces": 0}}, "vocabulary.num_pieces: expected an integer of at least 1, got 0"),
        ({"transfer": {"query_query": -1}}, "transfer.query_query: expected a number of at least 0"),
        (
            {"transfer": {"query_query": 0, "passage_passage": 0, "query_passage": 0}},
            "transfer.query_query: expected a weight above 0 for at least one",
        ),
        ({"transfer": {"reduction": "max"}}, "transfer.reduction: expected one of sum, mean, got 'max'"),
        ({"level": "best-passage"}, "level: expected passage or document, got 'best-passage'"),
        (
            {"stages": ["teacher", "warmup"]},
            "stages: expected some of vocabulary, warmup, teacher, contrastive, distillation, transfer, in order",
        ),
        ({"stages": []}, "stages: expected some of"),
        ({"languages": ["en", "en"]}, "languages: expected each language once"),
        ({"languages": "en"}, "languages: expected a tuple of a string, got 'en'"),
        ({"chunk_tokens": -1}, "chunk_tokens: expected an integer of at least 0, got -1"),
        ({"gradient_cache": True}, "gradient_cache: expected false, or chunk_tokens above 0 to go with it, got True"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"freeze_embeddings": "True"}, "freeze_embeddings: expected true or false, got 'True'"),
    ],
)
def test_invalid_values_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(table)


def test_a_wrong_type_is_a_type_error_in_python_and_a_value_error_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"warmup\.epochs: expected an integer, got '3'"):
        WarmupConfig(epochs="3")  # type: ignore[arg-type]
    path = tmp_path / "my.toml"
    path.write_text('[warmup]\nepochs = "3"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"my\.toml: warmup\.epochs: expected an integer, got '3'"):
        TrainConfig.from_toml(path)


def test_the_error_for_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[teacher]\nmargin = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"my\.toml: teacher\.margin: expected"):
        TrainConfig.from_toml(path)
    path.write_text("[teacher\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"my\.toml: not a TOML file"):
        TrainConfig.from_toml(path)
    with pytest.raises(FileNotFoundError):
        TrainConfig.from_toml(tmp_path / "none.toml")


def test_configurations_are_frozen() -> None:
    config = TransferConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.scale = 1.0  # type: ignore[misc]


def test_the_configuration_of_each_stage() -> None:
    config = TrainConfig()
    stages = [config.warmup, config.teacher, config.contrastive, config.distillation, config.transfer]
    assert [config.stage(s) for s in Stage if s is not Stage.VOCABULARY] == stages


def test_the_contrastive_stage_runs_only_if_it_is_named() -> None:
    assert TrainConfig().stages == (Stage.WARMUP, Stage.TEACHER, Stage.TRANSFER)
    assert not TrainConfig().uses_translations
    config = TrainConfig(stages=(Stage.CONTRASTIVE,))
    assert config.uses_translations
    assert not replace(config, contrastive=ContrastiveConfig(parallel_passages=False)).uses_translations
