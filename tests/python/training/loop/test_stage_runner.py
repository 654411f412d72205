"""Single stages: each trains its examples, lowers its loss, and keeps its best weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from relkt.data.types import RetrievalData, Split
from relkt.losses import Reduction
from relkt.training import Progress, Stage, TrainConfig, TransferConfig
from relkt.training.loop.stage_runner import run_stage
from relkt.training.records.run_directory import RunDirectory
from relkt.training.stages import STAGES, Prepared, Teacher

LANGUAGES = ("en", "de", "th")
MakePrepared = Callable[..., Prepared]


class Recorder(Progress):
    """The loss of each step, and the weights after the last step, whether or not the stage keeps them."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self.values: list[float] = []
        self.planned: list[int] = []
        self.weights: dict[str, torch.Tensor] = {}

    def step(self, loss: float) -> None:
        self.values.append(loss)
        self.weights = {k: v.detach().clone() for k, v in self._model.state_dict().items()}

    def steps_planned(self, total_steps: int) -> None:
        self.planned.append(total_steps)


def run(stage: Stage, model: SentenceTransformer, prepared: Prepared, folder: Path) -> Recorder:
    """Run one stage by itself."""
    directory = RunDirectory.open(folder, prepared.config, {}, resume=False)
    directory.start()
    progress = Recorder(model)
    run_stage(stage, model, prepared, directory, progress)
    return progress


def config_of(stage: Stage, table: dict[str, object]) -> TrainConfig:
    common = {"patience": 0, "evaluations_per_epoch": 1, "halve_lr_every": 0}
    return TrainConfig.from_dict({"stages": [stage.value], stage.value: common | table})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "table"),
    [
        (Stage.WARMUP, {"batch_size": 72, "epochs": 7}),
        (Stage.TEACHER, {"batch_size": 1000, "epochs": 20, "margin": 1.0}),  # mines before each step
        (Stage.CONTRASTIVE, {"batch_size": 4, "epochs": 5, "document_weight": 0.5}),
        (Stage.TRANSFER, {"batch_size": 36, "epochs": 10, "query_query": 1.0}),
    ],
)
def test_a_stage_lowers_its_loss_in_20_steps(
    stage: Stage,
    table: dict[str, object],
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
    tmp_path: Path,
) -> None:
    prepared = prepared_of(tiny_data, TrainConfig.from_dict({stage.value: table}))
    training = STAGES[stage](tiny_model, prepared, Progress())
    batch = training.batch(training.examples(0)[: training.examples_per_step])

    def loss() -> float:
        tiny_model.eval()
        with torch.no_grad():
            features = [tiny_model.preprocess(texts) for texts in (batch.queries, batch.passages)]
            return float(training.loss(features, batch.targets))

    before = loss()
    prepared = prepared_of(tiny_data, config_of(stage, table | {"learning_rate": 3e-3}))
    progress = run(stage, tiny_model, prepared, tmp_path)
    assert 20 <= len(progress.values) <= 21
    tiny_model.load_state_dict(progress.weights)
    assert loss() < 0.8 * before


@pytest.mark.slow
def test_the_teacher_stage_ends_when_nothing_is_mined(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mined = Teacher.examples
    monkeypatch.setattr(Teacher, "examples", lambda self, epoch: mined(self, epoch)[: 0 if epoch == 2 else 32])
    config = config_of(Stage.TEACHER, {"epochs": 9, "learning_rate": 1e-3})
    progress = run(Stage.TEACHER, tiny_model, prepared_of(tiny_data, config), tmp_path)
    assert len(progress.values) == 4  # two epochs of two batches
    assert progress.planned[0] > 4
    assert (tmp_path / "stages" / "teacher" / "model" / "modules.json").is_file()


@pytest.mark.slow
def test_a_teacher_stage_that_mines_nothing_keeps_its_start(
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    monkeypatch.setattr(Teacher, "examples", lambda *_: np.empty((0, 3), dtype=np.int64))
    prepared = prepared_of(tiny_data, config_of(Stage.TEACHER, {}))
    assert run(Stage.TEACHER, tiny_model, prepared, tmp_path).values == []
    assert all(torch.equal(v, start[k]) for k, v in tiny_model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Stage.WARMUP, Stage.TRANSFER])
@pytest.mark.parametrize("reduction", list(Reduction))
def test_micro_batches_have_the_gradient_of_the_whole_batch(
    stage: Stage,
    reduction: Reduction,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
    tmp_path: Path,
) -> None:
    results = []
    for number in (1, 5):
        model = model_of(dropout=0.0)  # dropout masks would differ
        table = {"epochs": 1, "batch_size": 48, "accumulation": number, "reduction": reduction.value}
        config = TrainConfig.from_dict({"stages": [stage.value], stage.value: table | {"learning_rate": 1e-3}})
        progress = run(stage, model, prepared_of(tiny_data, config), tmp_path / str(number))
        results.append((progress.values, progress.weights))
    (losses, whole), (other_losses, accumulated) = results
    assert other_losses == pytest.approx(losses, rel=1e-3)
    assert all(torch.allclose(whole[name], accumulated[name], atol=2e-4) for name in whole)


def test_every_stage_that_takes_steps_is_registered(
    tiny_model: SentenceTransformer, tiny_data: RetrievalData, prepared_of: MakePrepared
) -> None:
    assert list(STAGES) == [stage for stage in Stage if stage is not Stage.VOCABULARY]
    for stage, make in STAGES.items():
        assert type(make(tiny_model, prepared_of(tiny_data), Progress())).__name__.lower() == stage.value


@pytest.mark.slow
@pytest.mark.parametrize("include_english", [True, False])
def test_transfer_may_include_english(
    include_english: bool,
    tiny_model: SentenceTransformer,
    tiny_data: RetrievalData,
    prepared_of: MakePrepared,
    tmp_path: Path,
) -> None:
    config = TrainConfig(
        languages=("de",),
        stages=(Stage.TRANSFER,),
        transfer=TransferConfig(epochs=1, batch_size=1, include_english=include_english),
    )
    prepared = prepared_of(tiny_data, config, languages=("de",))
    progress = run(Stage.TRANSFER, tiny_model, prepared, tmp_path)
    num_train = sum(q.split is Split.TRAIN and q.language == "de" for q in tiny_data.queries)
    assert len(progress.values) == num_train * (2 if include_english else 1)
