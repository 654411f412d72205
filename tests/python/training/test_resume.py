"""A killed run, once resumed, ends bit-identical to an uninterrupted run."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import runpy
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from typing_extensions import override

from relkt.data.types import RetrievalData
from relkt.training import Precision, Progress, Stage, TrainConfig, train

# The stages that take steps: those of the tiny run.
STEPPED = [stage for stage in Stage if stage is not Stage.VOCABULARY]

CHILD = Path(__file__).parent / "resume_child.py"


def files(run: Path) -> dict[str, bytes]:
    """All files of a run except plots."""
    kept = (p for p in run.rglob("*") if p.is_file() and p.suffix not in (".png", ".svg"))
    return {str(p.relative_to(run)): p.read_bytes() for p in kept}


@dataclass(frozen=True)
class Undisturbed:
    """Inputs of a run, on disk, and the files of the run without interruption."""

    model: Path
    data: Path
    config: Path
    files: dict[str, bytes]
    teacher: Path | None = None

    def child(self, output_dir: Path, **how: Any) -> int:
        """Resume (or start) the run in another process, and return its exit code."""
        arguments = {"model": self.model, "data": self.data, "config": self.config, "output_dir": output_dir}
        if self.teacher is not None:
            arguments["teacher"] = self.teacher
        arguments = {name: str(path) for name, path in arguments.items()} | how
        # The fork server imports the slow modules once, and has no threads when it forks.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["relkt.training.run"])
        process = context.Process(target=runpy.run_path, args=(str(CHILD), {"ARGUMENTS": arguments}, "__main__"))
        process.start()
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
            process.join()
            pytest.fail("the run took more than 120 s")
        assert process.exitcode is not None
        return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    model_of().save_pretrained(str(folder / "model"), create_model_card=False)
    (folder / "data.pickle").write_bytes(pickle.dumps(tiny_data))
    tiny_config.to_toml(folder / "config.toml")
    start = Undisturbed(folder / "model", folder / "data.pickle", folder / "config.toml", {})
    assert start.child(folder / "run") == 0
    return replace(start, files=files(folder / "run"))


@pytest.mark.slow
def test_killed_at_steps_of_each_stage(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One run is killed five times, at steps before, between and after evaluations, and in every stage."""
    steps = [("warmup", 3), ("warmup", 5), ("teacher", 9), ("contrastive", 11), ("transfer", 12)]
    for stage, step in steps:
        assert undisturbed.child(tmp_path / "run", kill={"stage": stage, "step": step}) == -signal.SIGKILL
    assert undisturbed.child(tmp_path / "run") == 0
    assert files(tmp_path / "run") == undisturbed.files


@pytest.mark.slow
def test_killed_in_mixed_precision(undisturbed: Undisturbed, tiny_config: TrainConfig, tmp_path: Path) -> None:
    """A process that starts in the second stage also has mixed precision."""
    stages = (Stage.WARMUP, Stage.TEACHER)
    replace(tiny_config, stages=stages, precision=Precision.BFLOAT16).to_toml(tmp_path / "config.toml")
    start = replace(undisturbed, config=tmp_path / "config.toml")
    assert start.child(tmp_path / "alone") == 0
    for stage, step in [("warmup", 5), ("teacher", 9)]:
        assert start.child(tmp_path / "run", kill={"stage": stage, "step": step}) == -signal.SIGKILL
    assert start.child(tmp_path / "run") == 0
    assert files(tmp_path / "run") == files(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "activity", "times"),
    [
        ("warmup", "evaluating", 3),
        ("teacher", "mining", 2),
        ("teacher", "mining", 3),
        ("contrastive", "saving", 3),
        ("contrastive", "evaluating", 8),
        ("transfer", "saving", 2),
    ],
)
def test_killed_between_steps(undisturbed: Undisturbed, tmp_path: Path, stage: str, activity: str, times: int) -> None:
    kill = {"stage": stage, "activity": activity, "times": times}
    assert undisturbed.child(tmp_path / "run", kill=kill) == -signal.SIGKILL
    assert undisturbed.child(tmp_path / "run") == 0
    assert files(tmp_path / "run") == undisturbed.files


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        "checkpoint: model written, optimizer not",
        "checkpoint: all written, not committed",
        "commit: half a file",
        "checkpoint: committed, old ones not deleted",
        "stage: model written, record not",
        "stage: record written, checkpoints not deleted",
    ],
)
def test_killed_while_writing(undisturbed: Undisturbed, tmp_path: Path, moment: str) -> None:
    assert undisturbed.child(tmp_path / "run", moment=moment) == -signal.SIGKILL
    assert undisturbed.child(tmp_path / "run") == 0
    assert files(tmp_path / "run") == undisturbed.files


@pytest.mark.slow
def test_killed_while_another_model_teaches(
    undisturbed: Undisturbed, model_of: Callable[..., SentenceTransformer], tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """The student has a projection: in checkpoints, in the stage's model and in the final model."""
    model_of(seed=3, width=12).save_pretrained(str(tmp_path / "teacher"), create_model_card=False)
    transfer = replace(tiny_config.transfer, parallel_passages=True)
    replace(tiny_config, stages=(Stage.WARMUP, Stage.TRANSFER), transfer=transfer).to_toml(tmp_path / "config.toml")
    start = replace(undisturbed, teacher=tmp_path / "teacher", config=tmp_path / "config.toml")
    assert start.child(tmp_path / "alone") == 0
    how: list[dict[str, Any]] = [
        {"kill": {"stage": "warmup", "step": 3}},
        {"kill": {"stage": "transfer", "step": 2}},
        {"kill": {"stage": "transfer", "step": 12}},
    ]
    for kill in how:
        assert start.child(tmp_path / "run", **kill) == -signal.SIGKILL
    assert start.child(tmp_path / "run") == 0
    alone = files(tmp_path / "alone")
    assert files(tmp_path / "run") == alone
    shutil.rmtree(tmp_path / "run" / "model")  # as if killed after the last stage, before it was written
    assert start.child(tmp_path / "run") == 0
    assert files(tmp_path / "run") == alone


class Interrupted(Progress):
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._now: Stage | None = None
        self.skipped: list[Stage] = []
        self.done_steps: list[int] = []
        self.planned: list[int] = []
        self.steps = 0

    @override
    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        self._now = stage
        self.done_steps.append(done_steps)

    @override
    def steps_planned(self, total_steps: int) -> None:
        if self._now is Stage.TEACHER:
            self.planned.append(total_steps)

    @override
    def step(self, loss: float) -> None:
        self.steps += self._now is Stage.TEACHER

    @override
    def stage_skipped(self, stage: Stage) -> None:
        self.skipped.append(stage)

    @override
    def activity(self, name: str) -> None:
        if self._now is self._stage and name == "saving":
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_interrupted_by_ctrl_c_can_be_resumed(
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tiny_config: TrainConfig,
    undisturbed: Undisturbed,
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(model_of(), tiny_data, output_dir=tmp_path, config=tiny_config, progress=Interrupted(Stage.TRANSFER))
    model = train(model_of(), tiny_data, output_dir=tmp_path, resume=True)
    assert files(tmp_path) == undisturbed.files
    assert not model.training
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_resumed_run_starts_after_its_checkpoint_and_skips_finished_stages(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    class Later(Interrupted):
        @override
        def activity(self, name: str) -> None:
            pass

        @override
        def step(self, loss: float) -> None:
            if self._now is self._stage and (tmp_path / "stages" / "teacher" / "checkpoint-4").exists():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model_of(), tiny_data, output_dir=tmp_path, config=tiny_config, progress=Later(Stage.TEACHER))
    progress = Interrupted(Stage.WARMUP)  # already finished
    train(model_of(), tiny_data, output_dir=tmp_path, resume=True, progress=progress)
    assert progress.skipped == [Stage.WARMUP]
    assert progress.done_steps == [4, 0, 0, 0]
    assert progress.planned[-1] == 4 + progress.steps  # known once the last epoch's triplets are mined


@pytest.mark.slow
def test_resuming_a_finished_run_gives_its_model(
    undisturbed: Undisturbed,
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    tmp_path: Path,
) -> None:
    train(model_of(), tiny_data, output_dir=tmp_path, config=TrainConfig.from_toml(undisturbed.config))
    progress = Interrupted(Stage.WARMUP)
    model = train(model_of(), tiny_data, output_dir=tmp_path, resume=True, progress=progress)
    assert progress.skipped == STEPPED
    assert files(tmp_path) == undisturbed.files
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_runs_are_not_overwritten_or_resumed_with_other_inputs(
    model_of: Callable[..., SentenceTransformer],
    tiny_data: RetrievalData,
    data_of: Callable[..., RetrievalData],
    tiny_config: TrainConfig,
    tmp_path: Path,
) -> None:
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    train(model_of(), tiny_data, output_dir=tmp_path, config=config)
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match="output_dir: expected a new or empty folder"):
        train(model_of(), tiny_data, output_dir=tmp_path, config=config)
    with pytest.raises(ValueError, match=r"config: expected that of the run to resume.*seed was 42, is now 1"):
        train(model_of(), tiny_data, output_dir=tmp_path, config=replace(config, seed=1), resume=True)
    with pytest.raises(ValueError, match="model: expected the one that the run in"):
        train(model_of(seed=5), tiny_data, output_dir=tmp_path, config=config, resume=True)
    with pytest.raises(ValueError, match="data: expected the one that the run in"):
        train(model_of(), data_of(seed=5), output_dir=tmp_path, config=config, resume=True)
    queries_first = model_of(prompts={"query": "query : "})
    with pytest.raises(ValueError, match="model: expected the one that the run in"):
        train(queries_first, tiny_data, output_dir=tmp_path, config=config, resume=True)
    shorter = model_of()
    shorter.max_seq_length = 4
    with pytest.raises(ValueError, match="model: expected the one that the run in"):
        train(shorter, tiny_data, output_dir=tmp_path, config=config, resume=True)
    fewer_heads = model_of()
    fewer_heads[0].auto_model.config.num_attention_heads = 1
    with pytest.raises(ValueError, match="model: expected the one that the run in"):
        train(fewer_heads, tiny_data, output_dir=tmp_path, config=config, resume=True)
    first = model_of()
    first[1].pooling_mode = "cls"
    with pytest.raises(ValueError, match="model: expected the one that the run in"):
        train(first, tiny_data, output_dir=tmp_path, config=config, resume=True)
    with pytest.raises(ValueError, match=r"teacher: expected the one that .* started with \(none\), got another"):
        train(model_of(), tiny_data, output_dir=tmp_path, config=config, teacher=model_of(seed=5), resume=True)
    assert files(tmp_path) == before


@pytest.mark.slow
def test_resume_starts_a_new_run_in_a_missing_folder(
    model_of: Callable[..., SentenceTransformer], tiny_data: RetrievalData, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny_config, stages=(Stage.WARMUP,))
    train(model_of(), tiny_data, output_dir=tmp_path / "new", config=config, resume=True)
    assert list(json.loads((tmp_path / "new" / "results.json").read_text())) == ["before", "warmup"]
