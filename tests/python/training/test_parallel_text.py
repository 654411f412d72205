"""Training on parallel text, with questions and without."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.parallel import Pair, ParallelText
from relkt.data.types import RetrievalData
from relkt.encoders import load_encoder
from relkt.training import TrainConfig, train
from relkt.training.progress import DevScore, Progress

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parallel() -> ParallelText:
    """Words of the tiny model's vocabulary, topic by topic, in German and Thai."""
    rng = random.Random(0)

    def text(language: str, topic: int, letters: list[str]) -> str:
        return " ".join(f"{language}{topic}{letter}" for letter in letters)

    drawn = [(rng.randrange(8), rng.sample("abcdef", 3)) for _ in range(400)]
    pairs = [
        Pair(f"{text('en', topic, letters)} {n % 7}", text(language, topic, letters), language)
        for n, (topic, letters) in enumerate(drawn)
        for language in ("de", "th")
    ]
    return ParallelText(tuple(dict.fromkeys(pairs)))


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return TrainConfig.from_dict(
        {
            "languages": ["de", "th"],
            "stages": ["distillation"],
            "logging_steps": 1,
            "distillation": {"epochs": 3, "batch_size": 64, "learning_rate": 3e-3, "parallel_pairs": 300},
        }
    )


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def dev(folder: Path) -> list[float]:
    rows = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [row["dev_p1"] for row in rows if "dev_p1" in row]


def test_parallel_text_alone_brings_languages_to_english(
    model_of: Callable[..., SentenceTransformer], parallel: ParallelText, config: TrainConfig, tmp_path: Path
) -> None:
    model = train(model_of(), parallel=parallel, output_dir=tmp_path, config=config, progress=Progress())
    scores = dev(tmp_path)
    assert scores[-1] > scores[0] + 0.1
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["before", "distillation"]
    query, passage = model.encode(["de1a de1b de1c", "en1a en1b en1c"])
    assert query @ passage > 0.5


def test_parallel_text_adds_to_a_data_set(
    model_of: Callable[..., SentenceTransformer],
    parallel: ParallelText,
    tiny_data: RetrievalData,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    with_pairs = train(
        model_of(), tiny_data, parallel=parallel, output_dir=tmp_path / "with", config=config, progress=Progress()
    )
    without = train(model_of(), tiny_data, output_dir=tmp_path / "without", config=config, progress=Progress())
    steps = {
        name: sum("loss" in line for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        for name in ("with", "without")
    }
    assert steps["with"] > steps["without"]
    assert any(not torch.equal(value, without.state_dict()[name]) for name, value in with_pairs.state_dict().items())


def test_texts_of_the_test_questions_are_left_out(
    model_of: Callable[..., SentenceTransformer],
    parallel: ParallelText,
    tiny_data: RetrievalData,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    held = [q for q in tiny_data.queries if q.split.value == "test" and q.language == "de"]
    leak = tuple(Pair(f"leak {q.id}", q.text.upper(), "de") for q in held)
    clean = train(
        model_of(), tiny_data, parallel=parallel, output_dir=tmp_path / "clean", config=config, progress=Progress()
    )
    leaked = train(
        model_of(),
        tiny_data,
        parallel=ParallelText((*parallel.pairs, *leak)),
        output_dir=tmp_path / "leak",
        config=config,
        progress=Progress(),
    )
    for name, value in clean.state_dict().items():
        assert torch.equal(value, leaked.state_dict()[name]), name


class _KilledError(Exception):
    pass


class _Killing(Progress):
    """Raises at a dev evaluation."""

    def __init__(self, at: int) -> None:
        self._left = at

    def evaluated(self, score: DevScore) -> None:
        del score
        self._left -= 1
        if self._left == 0:
            raise _KilledError


@pytest.mark.parametrize("at", [2, 3])
def test_a_killed_run_ends_the_same(
    at: int, model_of: Callable[..., SentenceTransformer], parallel: ParallelText, config: TrainConfig, tmp_path: Path
) -> None:
    whole = train(model_of(), parallel=parallel, output_dir=tmp_path / "whole", config=config, progress=Progress())
    with pytest.raises(_KilledError):
        train(model_of(), parallel=parallel, output_dir=tmp_path / "cut", config=config, progress=_Killing(at))
    resumed = train(model_of(), parallel=parallel, output_dir=tmp_path / "cut", resume=True, progress=Progress())
    for name, value in weights(whole).items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for name in ("metrics.jsonl", "results.json", "results.md", "model/model.safetensors", "config.toml"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_resumed_run_expects_the_same_pairs(
    model_of: Callable[..., SentenceTransformer], parallel: ParallelText, config: TrainConfig, tmp_path: Path
) -> None:
    train(model_of(), parallel=parallel, output_dir=tmp_path, config=config, progress=Progress())
    with pytest.raises(ValueError, match=r"^(data|parallel): "):
        train(model_of(), parallel=ParallelText(parallel.pairs[:-1]), output_dir=tmp_path, resume=True)


def test_another_teacher_brings_its_space(
    model_of: Callable[..., SentenceTransformer], parallel: ParallelText, config: TrainConfig, tmp_path: Path
) -> None:
    teacher = model_of(seed=1, width=24)
    student = train(
        model_of(), parallel=parallel, output_dir=tmp_path, config=config, teacher=teacher, progress=Progress()
    )
    assert student.get_embedding_dimension() == 24
    text = ["en1a en1b en1c 1"]
    assert float((student.encode(text) * teacher.encode(text, normalize_embeddings=True)).sum()) > 0.5


def test_muse_gets_pieces_from_parallel_text(tmp_path: Path) -> None:
    words = {"ice": "πάγος", "bread": "ψωμί", "sea": "θάλασσα", "sun": "ήλιος", "bee": "μέλισσα"}
    pairs = tuple(
        Pair(f"the {one} and the {other} number {n}", f"ο {words[one]} και ο {words[other]} αριθμός {n}", "el")
        for n, (one, other) in enumerate((a, b) for a in words for b in words for _ in range(8) if a != b)
    )
    model = load_encoder("muse", device="cpu")
    size = model[0].vocab_size
    train(model, parallel=ParallelText(pairs), output_dir=tmp_path, progress=Progress())
    config = TrainConfig.from_toml(tmp_path / "config.toml")
    assert [stage.value for stage in config.stages] == ["vocabulary", "distillation"]
    assert model[0].vocab_size > size - 40_000
    pieces = set(model[0].tokenizer.get_vocab())
    assert "▁ψωμί" in pieces
    scores = dev(tmp_path)
    assert scores[-1] >= scores[0]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["warmup"], "parallel: expected None, because the configuration has neither a vocabulary nor a distillation"),
        (["warmup", "distillation"], "stages: expected only vocabulary and distillation, because there are no"),
    ],
)
def test_stages_that_need_questions(
    stages: list[str],
    message: str,
    model_of: Callable[..., SentenceTransformer],
    parallel: ParallelText,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    other = TrainConfig.from_dict(config.to_dict() | {"stages": stages})
    with pytest.raises(ValueError, match=message):
        train(model_of(), parallel=parallel, output_dir=tmp_path / "run", config=other)
    assert not (tmp_path / "run").exists()


def test_neither_data_nor_parallel(model_of: Callable[..., SentenceTransformer], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: expected a data set, or parallel text in parallel, got neither"):
        train(model_of(), output_dir=tmp_path)
