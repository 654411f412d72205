"""Whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import Level, RetrievalData, Split
from relkt.training import DevEvaluator, DevScore, Progress, Stage, TrainConfig, train

# The stages that take steps.
STEPPED = [stage for stage in Stage if stage is not Stage.VOCABULARY]


class Recorder(Progress):
    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self.weights: dict[str, torch.Tensor] = {}
        self.events: list[str] = []
        self.dev: list[DevScore] = []
        self.kept: dict[Stage, DevScore] = {}

    @override
    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        self.events.append(f"start {stage.value} {done_steps}")

    @override
    def step(self, loss: float) -> None:
        self.weights = {k: v.detach().clone() for k, v in self._model.state_dict().items()}

    def stage_skipped(self, stage: Stage) -> None:
        self.events.append(f"skip {stage.value}")

    def evaluated(self, dev: DevScore) -> None:
        self.dev.append(dev)

    def stage_finished(self, stage: Stage, best: DevScore) -> None:
        self.events.append(f"finish {stage.value}")
        self.kept[stage] = best


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def same_weights(a: SentenceTransformer, b: SentenceTransformer) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_run_improves_and_writes_all_its_files(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    out, progress = tmp_path / "run", Recorder(tiny_model)
    model = train(tiny_model, tiny_data, output_dir=out, config=tiny_config, progress=progress)

    assert model is tiny_model
    assert not model.training
    assert list(elsewhere.iterdir()) == []
    assert capfd.readouterr().out == ""
    assert progress.events == [f"{what} {s.value}{n}" for s in STEPPED for what, n in (("start", " 0"), ("finish", ""))]
    assert TrainConfig.from_toml(out / "config.toml") == tiny_config
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {
        "run.json", "metrics.jsonl", "results.json", "results.md", "model/model.safetensors",
        "stages/warmup/model/model.safetensors", "plots/learning_curve.png", "plots/learning_curve.svg",
        "plots/languages.png", "plots/languages.svg",
    } <= names  # fmt: skip
    assert not [name for name in names if "checkpoint" in name or "partial" in name]
    assert [name for name in names if "README" in name] == ["model/README.md"]

    # A stage ends with its best weights, from any of its evaluations.
    for stage in STEPPED:
        scores = [dev for dev in progress.dev if dev.stage is stage]
        assert scores[0].step == 0
        assert progress.kept[stage] == max(scores, key=lambda dev: dev.p1)
        saved = SentenceTransformer(str(out / "stages" / stage.value / "model"), device="cpu")
        evaluator = DevEvaluator(tiny_data, languages=("en", "de", "th"), level=Level.PASSAGE)
        assert evaluator(saved)["dev_p1"] == progress.kept[stage].p1
    assert progress.kept[Stage.TRANSFER].p1 > progress.dev[0].p1
    assert any(0 < progress.kept[dev.stage].step < dev.step for dev in progress.dev)
    assert same_weights(model, SentenceTransformer(str(out / "model"), device="cpu"))

    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results) == ["before", *(stage.value for stage in STEPPED)]
    assert all(list(row) == ["passage", "document", "best-passage"] for row in results.values())
    table = (out / "results.md").read_text(encoding="utf-8")
    names = ("before", "after warm-up", "after teacher", "after contrastive", "after distillation", "after transfer")
    assert all(name in table for name in names)


@pytest.mark.slow
def test_runs_are_repeatable_and_seeds_matter(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    models = []
    for name, seed in (("a", 42), ("b", 42), ("c", 43)):
        torch.manual_seed(len(models))  # what the process did before must not matter
        config = replace(tiny_config, seed=seed)
        models.append(train(model_of(), tiny_data, output_dir=tmp_path / name, config=config))
    texts = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


@pytest.mark.slow
def test_only_the_configured_stages_run(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny_config, stages=(Stage.WARMUP, Stage.TRANSFER))
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert {r["stage"] for r in lines(tmp_path / "run")} == {"warmup", "transfer"}
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())) == ["before", "warmup", "transfer"]


@pytest.mark.slow
def test_a_run_on_documents_with_missing_translations_in_some_languages(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = replace(tiny_config, level=Level.DOCUMENT, languages=("de", "th"))
    # Half of the Thai questions have no translation.
    queries = tuple(
        replace(q, parallel=q.id) if q.language == "th" and q.id[1] in "0123" else q for q in tiny_data.queries
    )
    data = RetrievalData("half", tiny_data.passages, queries, tiny_data.qrels)
    train(tiny_model, data, output_dir=tmp_path / "run", config=config)
    assert "12 of 48 training questions have no English translation" in caplog.text
    assert all(set(r["dev"]["P@1"]) == {"de", "th"} for r in lines(tmp_path / "run") if "dev" in r)
    passage = json.loads((tmp_path / "run" / "results.json").read_text())["transfer"]["passage"]
    assert passage["trained_languages"] == ["de", "th"]


@pytest.mark.slow
def test_data_without_test_questions_give_no_table(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    queries = tuple(q for q in tiny_data.queries if q.split is not Split.TEST)
    data = RetrievalData("few", tiny_data.passages, queries, {q.id: tiny_data.qrels[q.id] for q in queries})
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    train(tiny_model, data, output_dir=tmp_path / "run", config=config)
    assert (tmp_path / "run" / "plots" / "learning_curve.png").is_file()
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_the_models_prompts_are_prepended(
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of(prompts={"query": "query : ", "document": "text : "})
    seen: set[tuple[str, str]] = set()
    preprocess = model.preprocess

    def recording(inputs: list[str], prompt: str | None = None, **kwargs: Any) -> Any:
        if model.training:
            seen.update((text, prompt or "") for text in inputs)
        return preprocess(inputs, prompt=prompt, **kwargs)

    monkeypatch.setattr(model, "preprocess", recording)
    # Spans of passages would be encoded as questions.
    config = replace(
        tiny_config,
        contrastive=replace(tiny_config.contrastive, pseudo_questions=0),
        distillation=replace(tiny_config.distillation, segment_share=0.0),
    )
    train(model, tiny_data, output_dir=tmp_path / "run", config=config)
    questions = {q.text for q in tiny_data.queries}
    assert {prompt for text, prompt in seen if text in questions} == {"query : "}
    assert {prompt for text, prompt in seen if text not in questions} == {"text : "}
