"""The folder of a run. Its files are complete at any moment; a resumed run continues from a checkpoint.

``config.toml`` holds the configuration, and ``run.json`` the identity of the run's inputs (checksums of the data and
the models). When a run is resumed, its configuration and inputs must match these files. A file that a killed process
left incomplete is ignored.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relkt.errors import ArgumentError, ArgumentExistsError, Parameter
from relkt.storage import atomic_folder, atomic_write, differences, is_temporary, list_names
from relkt.training.config import Stage, TrainConfig
from relkt.training.distributed.processes import on_rank_0
from relkt.training.examples import Rows

_CONFIG = "config.toml"
_RUN = "run.json"
_METRICS = "metrics.jsonl"
_COMMIT = "relkt_checkpoint.json"
_EXAMPLES = "relkt_examples.npy"
_EARLIER_EXAMPLES = "relkt_rows.npy"
"""Name of the file with an epoch's examples in checkpoints of earlier revisions. A run cannot resume from them."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Args:
        path: The folder of the checkpoint, with the model and the trainer's state.
        state: The state of the callback, as given to :meth:`RunDirectory.commit_checkpoint`.
        examples: The examples of the current epoch; None if the checkpoint is between two epochs.
    """

    path: Path
    state: dict[str, Any]
    examples: Rows | None


class RunDirectory:
    """The folder of one run; see :meth:`open`.

    In a job of several processes, each process must call the methods in the same order. Only rank 0 reads and writes,
    and it sends the results to the other processes. The exception is :meth:`replace_folder`, which only one process
    calls.

    Attributes:
        path: The folder.
        config: Configuration of the run.
        identity: Names and checksums of the run's inputs; None for an input that the run does not use.
        started: True if the run has been started, by this program or an earlier one.
    """

    def __init__(
        self, path: Path, config: TrainConfig, identity: Mapping[str, str | None], *, started: bool = False
    ) -> None:
        self.path = path
        self.config = config
        self.identity = dict(identity)
        self.started = started

    # Start

    @classmethod
    @on_rank_0
    def open(
        cls, path: Path, config: TrainConfig | None, identity: Mapping[str, str | None], *, resume: bool
    ) -> RunDirectory:
        """The folder of a new run, or of a run to resume. Nothing is written before :meth:`start` is called.

        Args:
            path: The folder.
            config: The configuration. With None, a new run has the default, and a started run keeps its own.
            identity: Names and checksums of the run's inputs.
            resume: True to continue a started run. If the folder has no started run, a new run is opened.

        Raises:
            FileExistsError: If the folder is not empty and ``resume`` is False, or ``path`` is a file.
            ValueError: If the run to resume has another configuration or identity, or the folder has files but no run.
        """
        if not _is_started(path):
            return cls(path, config or TrainConfig(), identity)
        if not resume:
            names = list_names(sorted(found.name for found in path.iterdir()))
            raise ArgumentExistsError(
                "output_dir",
                "a new or empty folder",
                f"{path}, which holds {names}",
                hint=("pass ", Parameter("resume", "True"), " to continue the run in it"),
            )
        if not (path / _CONFIG).is_file():
            raise ArgumentError("output_dir", "the folder of a run to resume", f"{path}, which has no {_CONFIG}")
        stored = TrainConfig.from_toml(path / _CONFIG)
        if config is not None and stored != config:
            found = "; ".join(map(str, differences(stored.to_dict(), config.to_dict())))
            raise ArgumentError("config", f"that of the run to resume, {path / _CONFIG}", f"other values: {found}")
        run = cls(path, stored, {}, started=True)
        run.require(identity)
        return run

    @on_rank_0
    def start(self) -> None:
        """Write the configuration and the identity, unless the run was started before.

        Raises:
            FileExistsError: If the folder is not empty. In this case, nothing is written.
        """
        if self.started:
            return
        if _is_started(self.path):
            raise ArgumentExistsError("output_dir", "a new or empty folder", f"{self.path}, which another run uses")
        self.path.mkdir(parents=True, exist_ok=True)
        known = {name: value for name, value in self.identity.items() if value is not None}
        atomic_write(self.path / _RUN, json.dumps(known, indent=2) + "\n")
        # Written last: a folder without a configuration has no started run.
        atomic_write(self.path / _CONFIG, self.config.dumps())

    def require(self, identity: Mapping[str, str | None]) -> None:
        """Add names and checksums to the identity of a new run, or check them against the identity of a started run.

        Raises:
            ValueError: If the started run has another identity.
        """
        if self.started:
            self._check_identity(identity)
        self.identity |= identity

    @on_rank_0
    def _check_identity(self, identity: Mapping[str, str | None]) -> None:
        stored = json.loads((self.path / _RUN).read_text(encoding="utf-8"))
        for name, value in identity.items():
            if stored.get(name) != value:
                raise ArgumentError(
                    name,
                    f"the one that the run in {self.path} started with ({stored.get(name) or 'none'})",
                    "none" if value is None else f"another ({value})",
                )

    # Metrics

    @property
    def metrics_path(self) -> Path:
        """The file with one JSON object per training log and dev evaluation."""
        return self.path / _METRICS

    @on_rank_0
    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record), ensure_ascii=False) + "\n")

    @on_rank_0
    def metrics_size(self) -> int:
        """Size of ``metrics.jsonl`` in bytes."""
        return self.metrics_path.stat().st_size if self.metrics_path.exists() else 0

    @on_rank_0
    def cut_metrics(self, size: int) -> None:
        """Drop the lines after the first ``size`` bytes.

        Raises:
            ValueError: If the file is shorter.
        """
        if self.metrics_size() < size:
            raise ValueError(
                f"{self.metrics_path}: expected the {size} bytes it had at the checkpoint, got {self.metrics_size()}"
            )
        if self.metrics_path.exists():
            os.truncate(self.metrics_path, size)

    # Stages

    def stage_path(self, stage: Stage) -> Path:
        """The folder of a stage."""
        return self.path / "stages" / stage.value

    def stage_model(self, stage: Stage) -> Path:
        """The folder of the model of a finished stage."""
        return self.stage_path(stage) / "model"

    @property
    def model_path(self) -> Path:
        """The folder of the final model."""
        return self.path / "model"

    @on_rank_0
    def read_record(self, name: str) -> dict[str, Any] | None:
        """A record that :meth:`write_record` wrote, or None."""
        path = self.path / "stages" / f"{name}.json"
        if not path.exists():
            return None
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    @on_rank_0
    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Record that a part of the run ("before", or a stage) is finished, with its results."""
        path = self.path / "stages" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(dict(record), ensure_ascii=False, indent=2) + "\n")

    # Checkpoints

    def checkpoint_path(self, stage: Stage, step: int) -> Path:
        """The folder into which the trainer writes the checkpoint of a step."""
        return self.stage_path(stage) / f"checkpoint-{step}"

    @on_rank_0
    def commit_checkpoint(self, stage: Stage, step: int, state: Mapping[str, Any], examples: Rows | None) -> None:
        """Declare a checkpoint complete, after the trainer has written its files.

        The file that is written last lists all other files of the checkpoint with their sizes, and the size of
        ``metrics.jsonl``. A checkpoint without this file is incomplete.

        Args:
            stage: The stage.
            step: The optimizer step.
            state: The state of the callback, as JSON values; ``step`` is part of it.
            examples: The examples of the current epoch; None if the checkpoint is between two epochs.
        """
        path = self.checkpoint_path(stage, step)
        if examples is not None:
            np.save(path / _EXAMPLES, examples, allow_pickle=False)
        sizes = {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}
        commit = {"state": dict(state), "metrics_size": self.metrics_size(), "files": sizes}
        atomic_write(path / _COMMIT, json.dumps(commit, indent=2) + "\n")

    @on_rank_0
    def keep_checkpoints(self, stage: Stage, steps: set[int]) -> None:
        """Delete all checkpoints of a stage except those of ``steps``."""
        kept = {self.checkpoint_path(stage, step) for step in steps}
        for path in self.stage_path(stage).glob("checkpoint-*"):
            if path not in kept:
                # Delete the commit first: a partly deleted checkpoint must not look complete.
                (path / _COMMIT).unlink(missing_ok=True)
                shutil.rmtree(path)

    @on_rank_0
    def clean_stage(self, stage: Stage) -> None:
        """Delete everything of a finished stage except its model."""
        self.keep_checkpoints(stage, set())
        for path in self.stage_path(stage).iterdir():
            if path != self.stage_model(stage):
                shutil.rmtree(path)

    @on_rank_0
    def latest_checkpoint(self, stage: Stage) -> Checkpoint | None:
        """The latest complete checkpoint of a stage.

        Deletes incomplete checkpoints, and drops the lines that were added to ``metrics.jsonl`` after the checkpoint.

        Raises:
            ValueError: If an earlier revision of relkt wrote the checkpoint within an epoch. In this case, nothing is
                deleted or dropped.
        """
        found = {path: _read_commit(path) for path in self.stage_path(stage).glob("checkpoint-*")}
        commits = {path: commit for path, commit in found.items() if commit is not None}
        latest = max(commits.items(), key=lambda item: item[1]["state"]["step"], default=None)
        if latest is not None and (latest[0] / _EARLIER_EXAMPLES).exists():
            raise ArgumentError(
                "output_dir",
                "a run of this revision of relkt",
                f"{self.path}, whose checkpoint {latest[0].name} an earlier revision wrote within an epoch",
                hint="finish the run with that revision, or start a new one",
            )
        for path in found.keys() - commits.keys():
            shutil.rmtree(path)
        if latest is None:
            return None
        path, commit = latest
        self.cut_metrics(commit["metrics_size"])
        examples = np.load(path / _EXAMPLES, allow_pickle=False) if (path / _EXAMPLES).exists() else None
        return Checkpoint(path, commit["state"], examples)

    def replace_folder(self, path: Path) -> AbstractContextManager[Path]:
        """A context manager that yields an empty folder. At the end of the context, the folder replaces ``path``."""
        return atomic_folder(path)


def _is_started(path: Path) -> bool:
    """True if a folder has files other than ``run.json`` and the temporary files of :meth:`RunDirectory.start`."""
    if path.exists() and not path.is_dir():
        raise ArgumentExistsError("output_dir", "a folder", f"the file {path}")

    def counts(name: str) -> bool:
        return name != _RUN and is_temporary(name) not in (_RUN, _CONFIG)

    return path.is_dir() and any(counts(found.name) for found in path.iterdir())


def _read_commit(path: Path) -> dict[str, Any] | None:
    """The commit of a checkpoint; None if a file is missing or has another size."""
    if not (path / _COMMIT).is_file():
        return None
    commit: dict[str, Any] = json.loads((path / _COMMIT).read_text(encoding="utf-8"))
    for name, size in commit["files"].items():
        if not (path / name).is_file() or (path / name).stat().st_size != size:
            return None
    return commit
