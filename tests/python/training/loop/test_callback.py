"""Metrics, learning rate, early stopping and best weights of the stages of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.training import DevScore, Progress, Stage, TrainConfig, train

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


@pytest.mark.slow
def test_metrics_have_the_documented_lines(
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
        # Every fourth step and every dev evaluation has a training line.
        assert set(steps) == {r["step"] for r in dev[1:]} | set(range(4, steps[-1] + 1, 4))


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_stage_that_improves_nothing_changes_nothing(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    start = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    # This learning rate moves weights but changes no ranking.
    config = TrainConfig.from_dict({"stages": ["transfer"], "transfer": {"epochs": 2, "learning_rate": 1e-6}})
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    assert progress.kept[Stage.TRANSFER].step == 0
    assert any(not torch.equal(v, start[k]) for k, v in progress.weights.items())
    assert all(torch.equal(v, start[k]) for k, v in tiny_model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("min_epochs", "evaluations"), [(0, 3), (4, 8)])
def test_early_stopping(
    min_epochs: int, evaluations: int, tiny_model: SentenceTransformer, tiny_data: RetrievalData, tmp_path: Path
) -> None:
    stage = {"epochs": 50, "learning_rate": 1e-6, "evaluations_per_epoch": 2, "patience": 3, "min_epochs": min_epochs}
    config = TrainConfig.from_dict({"stages": ["transfer"], "transfer": stage})
    progress = Recorder(tiny_model)
    train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=config, progress=progress)
    assert len(progress.dev) == 1 + evaluations


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    class Poison(Progress):
        @override
        def step(self, loss: float) -> None:
            next(iter(tiny_model.parameters())).data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="warmup: the training loss is nan at step 4"):
        train(tiny_model, tiny_data, output_dir=tmp_path / "run", config=tiny_config, progress=Poison())
