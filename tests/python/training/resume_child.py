"""Program of test_resume.py for its child processes: trains, and kills itself at a given moment.

Not a test module. The parent passes the arguments in ``ARGUMENTS``.
"""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any, NoReturn

import torch
from sentence_transformers import SentenceTransformer

from relkt.training import Progress, Stage, TrainConfig, train
from relkt.training.loop.trainer import StageTrainer
from relkt.training.records import run_directory
from relkt.training.records.run_directory import RunDirectory

# The tests that compare with this program do the same.
torch.cpu._is_avx512_bf16_supported = lambda: False


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Killed(Progress):
    """Kills the process in a stage: at a step, or at the ``times``-th start of an activity."""

    def __init__(self, stage: str, step: int = 0, activity: str = "", times: int = 1) -> None:
        self._stage, self._step, self._activity, self._times = stage, step, activity, times
        self._now = ""

    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:  # noqa: ARG002
        self._now = stage.value

    def step(self, loss: float) -> None:  # noqa: ARG002
        self._step -= self._now == self._stage
        if self._now == self._stage and self._step == 0:
            die()

    def activity(self, name: str) -> None:
        if self._now == self._stage and name == self._activity:
            self._times -= 1
            if self._times == 0:
                die()


def kill_in(moment: str) -> None:
    """Kill the process while a file is written for the second time."""
    left = {"times": 2}

    def count_down() -> None:
        left["times"] -= 1
        if left["times"] == 0:
            die()

    if moment == "checkpoint: model written, optimizer not":
        save = StageTrainer._save

        def after_model(self: StageTrainer, *args: Any, **kwargs: Any) -> None:
            save(self, *args, **kwargs)
            count_down()

        StageTrainer._save = after_model  # type: ignore[method-assign]
    elif moment == "checkpoint: all written, not committed":
        commit = RunDirectory.commit_checkpoint

        def before_commit(self: RunDirectory, *args: Any, **kwargs: Any) -> None:
            count_down()
            commit(self, *args, **kwargs)

        RunDirectory.commit_checkpoint = before_commit  # type: ignore[method-assign]
    elif moment == "checkpoint: committed, old ones not deleted":
        keep = RunDirectory.keep_checkpoints

        def before_deleting(self: RunDirectory, *args: Any, **kwargs: Any) -> None:
            count_down()
            keep(self, *args, **kwargs)

        RunDirectory.keep_checkpoints = before_deleting  # type: ignore[method-assign]
    elif moment == "commit: half a file":
        write = run_directory.atomic_write

        def half(path: Path, text: str) -> None:
            if path.name == "relkt_checkpoint.json":
                left["times"] -= 1
                if left["times"] == 0:
                    path.with_name(path.name + ".partial").write_text(text[: len(text) // 2])
                    die()
            write(path, text)

        run_directory.atomic_write = half
    elif moment == "stage: model written, record not":
        record = RunDirectory.write_record

        def before_record(self: RunDirectory, *args: Any, **kwargs: Any) -> None:
            count_down()
            record(self, *args, **kwargs)

        RunDirectory.write_record = before_record  # type: ignore[method-assign]
    elif moment == "stage: record written, checkpoints not deleted":
        clean = RunDirectory.clean_stage

        def before_cleaning(self: RunDirectory, *args: Any, **kwargs: Any) -> None:
            count_down()
            clean(self, *args, **kwargs)

        RunDirectory.clean_stage = before_cleaning  # type: ignore[method-assign]
    else:
        raise ValueError(moment)


def main(
    model: str,
    data: str,
    config: str,
    output_dir: str,
    teacher: str | None = None,
    kill: dict[str, Any] | None = None,
    moment: str | None = None,
) -> None:
    torch.set_num_threads(1)
    if moment is not None:
        kill_in(moment)
    with Path(data).open("rb") as file:
        loaded = pickle.load(file)
    train(
        SentenceTransformer(model, device="cpu"),
        loaded,
        output_dir=output_dir,
        config=TrainConfig.from_toml(config),
        teacher=None if teacher is None else SentenceTransformer(teacher, device="cpu"),
        resume=True,
        progress=Killed(**kill) if kill else None,
    )


if __name__ == "__main__":
    main(**globals()["ARGUMENTS"])
