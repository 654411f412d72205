"""Whole runs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import Level, RetrievalData, Split
from relkt.training import DevEvaluator, DevScore, Precision, Progress, Stage, TrainConfig, train
from relkt.training.preflight import check_device

# The stages that take steps: those of the tiny run.
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


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_shown_where_they_are_seen(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    tiny_model[1].register_forward_hook(lambda *_: sys.stdout.write("printed meanwhile\n") and None)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    shown = capsys.readouterr()
    assert ("warm-up" in shown.err) is terminal
    assert "printed meanwhile" in shown.out
    assert "warm-up" not in shown.out


def test_a_run_improves_and_leaves_all_it_promises(
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

    # A stage ends with its best weights, whenever it had them.
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


def test_metrics_have_the_lines_of_the_contract(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=tiny_config)
    records = lines(tmp_path / "run")
    for stage in STEPPED:
        of_stage = [r for r in records if r["stage"] == stage.value]
        averaged = [r for r in of_stage if "tuned_share" in r]
        of_stage = [r for r in of_stage if r not in averaged]
        assert [r["tuned_share"] for r in averaged] == (
            [0.5] if stage in (Stage.CONTRASTIVE, Stage.DISTILLATION) else []
        )
        dev = [r for r in of_stage if "dev" in r]
        training = [r for r in of_stage if "loss" in r]
        assert len(dev) + len(training) == len(of_stage)
        config = tiny_config.stage(stage)
        assert dev[0]["epoch"] == 0
        assert dev[-1]["epoch"] == config.epochs
        assert all(set(r) == {"stage", "epoch", "step", "dev", "dev_p1"} for r in dev)
        assert all(set(r["dev"]) == {"P@1", "MRR@10"} and set(r["dev"]["P@1"]) == {"en", "de", "th"} for r in dev)
        assert all(r["dev_p1"] == pytest.approx(sum(r["dev"]["P@1"].values()) / 3) for r in dev)
        assert all(set(r) == {"stage", "epoch", "step", "loss", "learning_rate"} for r in training)
        steps = [r["step"] for r in training]
        assert steps == sorted(set(steps))
        # Every fourth step, and wherever dev was evaluated.
        assert set(steps) == {r["step"] for r in dev[1:]} | set(range(4, steps[-1] + 1, 4))


def test_the_learning_rate_is_halved_when_dev_does_not_improve(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=tiny_config)
    for stage, every in ((Stage.WARMUP, 2), (Stage.TEACHER, 1), (Stage.TRANSFER, 1)):
        rate, best, in_a_row = tiny_config.stage(stage).learning_rate, -1.0, 0
        for record in (r for r in lines(tmp_path / "run") if r["stage"] == stage.value):
            if "loss" in record:
                assert record["learning_rate"] == pytest.approx(rate, rel=1e-12)
            elif record["dev_p1"] > best:
                best, in_a_row = record["dev_p1"], 0
            else:
                rate *= 0.5 if in_a_row % every == 0 else 1
                in_a_row += 1
        assert rate < tiny_config.stage(stage).learning_rate


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


def test_a_stage_that_improves_nothing_changes_nothing(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    start = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    # Enough to move weights, and not enough to change a ranking.
    config = TrainConfig.from_dict({"stages": ["transfer"], "transfer": {"epochs": 2, "learning_rate": 1e-6}})
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    assert progress.kept[Stage.TRANSFER].step == 0
    assert any(not torch.equal(v, start[k]) for k, v in progress.weights.items())
    assert all(torch.equal(v, start[k]) for k, v in tiny_model.state_dict().items())


@pytest.mark.parametrize(("min_epochs", "evaluations"), [(0, 3), (4, 8)])
def test_early_stopping(
    min_epochs: int, evaluations: int, tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    stage = {"epochs": 50, "learning_rate": 1e-6, "evaluations_per_epoch": 2, "patience": 3, "min_epochs": min_epochs}
    config = TrainConfig.from_dict({"stages": ["transfer"], "transfer": stage})
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    assert len(progress.dev) == 1 + evaluations


def test_only_the_stages_asked_for(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny_config, stages=(Stage.WARMUP, Stage.TRANSFER))
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert {r["stage"] for r in lines(tmp_path / "run")} == {"warmup", "transfer"}
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())) == ["before", "warmup", "transfer"]


def test_documents_questions_without_translations_and_languages_left_out(
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


def test_the_teacher_needs_no_english_questions_and_english_no_translations(
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


def test_a_data_set_of_one_document_is_an_error_before_any_work(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    passages = tuple(replace(p, document="all") for p in tiny_data.passages)
    data = RetrievalData("one", passages, tiny_data.queries, tiny_data.qrels)
    with pytest.raises(ValueError, match="expected candidates of other documents as negatives at level passage"):
        train(tiny_model, data, output_dir=tmp_path / "run", config=TrainConfig(stages=(Stage.TEACHER,)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("max_seq_length", "longer"), [(6, 0), (5, 16)])  # four words, [CLS] and [SEP]
def test_candidates_longer_than_the_encoder_takes_are_counted(
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


@pytest.mark.parametrize("document_weight", [0.0, 0.5])
def test_documents_that_are_too_long_are_counted_where_they_are_trained_on(
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


def test_a_data_set_without_test_questions_has_no_table(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    queries = tuple(q for q in tiny_data.queries if q.split is not Split.TEST)
    data = RetrievalData("few", tiny_data.passages, queries, {q.id: tiny_data.qrels[q.id] for q in queries})
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    train(tiny_model, data, output_dir=tmp_path / "run", config=config)
    assert (tmp_path / "run" / "plots" / "learning_curve.png").is_file()
    assert not (tmp_path / "run" / "results.json").exists()


def test_prompts_of_the_model_are_put_before_questions_and_passages(
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
    # Spans of passages would be passages as questions.
    config = replace(
        tiny_config,
        contrastive=replace(tiny_config.contrastive, pseudo_questions=0),
        distillation=replace(tiny_config.distillation, segment_share=0.0),
    )
    train(model, tiny_data, output_dir=tmp_path / "run", config=config)
    questions = {q.text for q in tiny_data.queries}
    assert {prompt for text, prompt in seen if text in questions} == {"query : "}
    assert {prompt for text, prompt in seen if text not in questions} == {"text : "}


def test_frozen_embeddings_stay_and_are_trainable_again(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    start = {k: v.detach().clone() for k, v in tiny_model.state_dict().items()}
    config = replace(tiny_config, freeze_embeddings=True, stages=(Stage.TEACHER,))
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    changed = {name for name, value in progress.weights.items() if not torch.equal(value, start[name])}
    assert not [name for name in changed if "word_embeddings" in name]
    assert [name for name in changed if "position_embeddings" in name]
    assert [name for name in changed if "attention" in name]
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_a_model_without_a_table_has_none_to_freeze(tiny_data: RetrievalData, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    model = SentenceTransformer(modules=[BoW(vocab=["a"])], device="cpu")
    with pytest.raises(ValueError, match=r"freeze_embeddings: expected a model with a table of token embeddings"):
        train(model, tiny_data, output_dir=tmp_path / "run", config=TrainConfig(freeze_embeddings=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", [Split.TRAIN, Split.DEV])
def test_a_language_without_questions_is_an_error_before_any_work(
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


def test_bfloat16_on_a_gpu_without_it_and_other_gpus_than_the_first(
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
    with pytest.raises(ValueError, match=r"model: expected weights of float32, got bfloat16 in 0\."):
        train(tiny_model.bfloat16(), tiny_data, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bfloat16_is_for_training_steps_only(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
) -> None:
    seen: list[tuple[bool, bool]] = []
    pooling = tiny_model[1]

    def recording(module: torch.nn.Module, *_: object) -> None:
        seen.append((module.training, torch.is_autocast_enabled("cpu")))

    pooling.register_forward_hook(recording)
    stages = [stage.value for stage in tiny_config.stages]
    config = TrainConfig.from_dict(tiny_config.to_dict() | {"precision": "bfloat16", "stages": stages})
    model = train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert set(seen) == {(True, True), (False, False)}  # steps of every stage; evaluation and mining
    assert not {"forward", "_original_forward", "_is_accelerate_prepared"} & model.__dict__.keys()
    saved = SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    texts = [p.text for p in tiny_data.passages]
    assert np.array_equal(model.encode(texts), saved.encode(texts))


def test_a_model_that_was_trained_in_bfloat16_elsewhere(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accelerate leaves its mark on a model, its own ``forward``, and perhaps a choice in the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one, once and for all
    other = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(tiny_model)
    AcceleratorState._reset_state(reset_partial_state=True)
    left = dict(other.__dict__)
    assert {"forward", "_original_forward", "_is_accelerate_prepared"} <= left.keys()
    seen = set()
    tiny_model[1].register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    config = replace(tiny_config, precision=Precision.FLOAT32, stages=(Stage.WARMUP,))
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    assert seen == {False}
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        assert tiny_model.__dict__[name] == left[name]


def test_bfloat16_trains(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = TrainConfig.from_dict(tiny_config.to_dict() | {"precision": "bfloat16", "stages": ["warmup"]})
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config)
    losses = [r["loss"] for r in lines(tmp_path / "run") if "loss" in r]
    assert losses[-1] < losses[0]
    assert all(p.dtype is torch.float32 for p in tiny_model.parameters())


def test_a_loss_that_is_not_finite_ends_the_run(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    class Poison(Progress):
        @override
        def step(self, loss: float) -> None:
            next(iter(tiny_model.parameters())).data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="warmup: the training loss is nan at step 4"):
        train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=tiny_config, progress=Poison())


def test_progress_bars_of_libraries_are_left_as_they_were(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    from transformers.utils import logging as transformers_logging

    level = logging.getLogger("bm25s").level
    transformers_logging.enable_progress_bar()
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=replace(tiny_config, stages=(Stage.WARMUP,)))
    assert transformers_logging.is_progress_bar_enabled()
    assert logging.getLogger("bm25s").level == level
