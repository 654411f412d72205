"""The files of a run: what is there is complete, and a resumed run goes on exactly where a checkpoint was made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relkt.training.config import Stage, TrainConfig
from relkt.training.distributed.processes import on_rank_0
from relkt.training.examples import Rows
from relkt.training.files import PARTIAL, write_atomically

_CONFIG = "config.toml"
_RUN = "run.json"
_METRICS = "metrics.jsonl"
_COMMIT = "relkt_checkpoint.json"
_ROWS = "relkt_rows.npy"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Args:
        path: Its folder: the model, and the trainer's state.
        state: What was passed to :meth:`RunDirectory.commit_checkpoint`.
        rows: The rows of the epoch it was made in, where it was made inside one.
    """

    path: Path
    state: dict[str, Any]
    rows: Rows | None


class RunDirectory:
    """A folder that holds one run. Make one with :meth:`create` or :meth:`resume`.

    In a job of several processes each calls all methods, in the same order; rank 0 alone reads and writes (but for
    :meth:`replace_folder`, which is for the process that calls it), and tells the others what it found.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.config = config

    # Start

    @classmethod
    @on_rank_0
    def create(cls, path: Path, config: TrainConfig, identity: Mapping[str, str | None]) -> RunDirectory:
        """Start a run in a new or empty folder.

        Args:
            path: The folder.
            config: The configuration, written to ``config.toml``.
            identity: Names and checksums of what the run starts from, written to ``run.json``; None for what it does
                without.

        Raises:
            FileExistsError: If the folder holds something; nothing is touched then.
        """
        if cls._is_started(path):
            names = sorted(p.name for p in path.iterdir())
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise FileExistsError(
                f"output_dir: expected a new or empty folder, got {path}, which holds {shown}; pass resume=True "
                "(--resume) to go on with the run in it"
            )
        path.mkdir(parents=True, exist_ok=True)
        known = {name: value for name, value in identity.items() if value is not None}
        write_atomically(path / _RUN, json.dumps(known, indent=2) + "\n")
        # Last: a folder without it is one in which no run was started.
        write_atomically(path / _CONFIG, config.dumps())
        return cls(path, config)

    @classmethod
    @on_rank_0
    def resume(cls, path: Path, config: TrainConfig | None, identity: Mapping[str, str | None]) -> RunDirectory | None:
        """Open the folder of a run that was started.

        Args:
            path: The folder.
            config: The configuration the run must have; None takes the one it has.
            identity: What the run must have started from.

        Returns:
            The run, or None if none was started in the folder (it does not exist or is empty).

        Raises:
            ValueError: If the folder is not that of a run, or the run has another configuration or identity.
        """
        if not cls._is_started(path):
            return None
        if not (path / _CONFIG).is_file():
            raise ValueError(f"output_dir: expected the folder of a run to resume, got {path}, which has no {_CONFIG}")
        stored = TrainConfig.from_toml(path / _CONFIG)
        if config is not None and stored != config:
            raise ValueError(
                f"config: expected that of the run to resume, {path / _CONFIG}, got other values: "
                + "; ".join(config_differences(stored.to_dict(), config.to_dict()))
            )
        run = cls(path, stored)
        run.check_identity(identity)
        return run

    @on_rank_0
    def check_identity(self, identity: Mapping[str, str | None]) -> None:
        """Check that the run started from something.

        Raises:
            ValueError: If it started from something else.
        """
        was = json.loads((self.path / _RUN).read_text(encoding="utf-8"))
        for name, value in identity.items():
            if was.get(name) != value:
                raise ValueError(
                    f"{name}: expected the one that the run in {self.path} started with ({was.get(name) or 'none'}), "
                    f"got {'none' if value is None else f'another ({value})'}"
                )

    @staticmethod
    def _is_started(path: Path) -> bool:
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"output_dir: expected a folder, got the file {path}")
        # What a run leaves that was killed before its configuration was written does not count.
        unfinished = {_RUN, _RUN + PARTIAL, _CONFIG + PARTIAL}
        return path.is_dir() and any(p.name not in unfinished for p in path.iterdir())

    # Metrics

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.path / _METRICS

    @on_rank_0
    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(record), ensure_ascii=False) + "\n")

    @on_rank_0
    def metrics_size(self) -> int:
        """Bytes in ``metrics.jsonl``."""
        return self.metrics_path.stat().st_size if self.metrics_path.exists() else 0

    @on_rank_0
    def cut_metrics(self, size: int) -> None:
        """Forget the lines after the first ``size`` bytes."""
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
        """The folder of the model that a finished stage gave."""
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
        """Note that a part of the run ("before", a stage) is finished, and what came of it."""
        path = self.path / "stages" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(dict(record), ensure_ascii=False, indent=2) + "\n")

    # Checkpoints

    def checkpoint_path(self, stage: Stage, step: int) -> Path:
        """Where the trainer writes the checkpoint of a step."""
        return self.stage_path(stage) / f"checkpoint-{step}"

    @on_rank_0
    def commit_checkpoint(self, stage: Stage, step: int, state: Mapping[str, Any], rows: Rows | None) -> None:
        """Declare a checkpoint complete, after the trainer has written its files.

        A checkpoint counts only once this has written its last file, which lists all others with their sizes. The
        size of ``metrics.jsonl`` is noted in it too.
        """
        path = self.checkpoint_path(stage, step)
        if rows is not None:
            np.save(path / _ROWS, rows, allow_pickle=False)
        sizes = {str(file.relative_to(path)): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()}
        record = {"state": dict(state), "metrics_size": self.metrics_size(), "files": sizes}
        write_atomically(path / _COMMIT, json.dumps(record, indent=2) + "\n")

    @on_rank_0
    def keep_checkpoints(self, stage: Stage, steps: set[int]) -> None:
        """Delete the checkpoints of a stage but those of some steps."""
        kept = {self.checkpoint_path(stage, step) for step in steps}
        for path in self.stage_path(stage).glob("checkpoint-*"):
            if path not in kept:
                # The commit goes first: half a checkpoint must never look like a whole one.
                (path / _COMMIT).unlink(missing_ok=True)
                shutil.rmtree(path)

    @on_rank_0
    def clean_stage(self, stage: Stage) -> None:
        """Delete all that a finished stage needs no more: everything but its model."""
        self.keep_checkpoints(stage, set())
        for path in self.stage_path(stage).iterdir():
            if path != self.stage_model(stage):
                shutil.rmtree(path)

    @on_rank_0
    def latest_checkpoint(self, stage: Stage) -> Checkpoint | None:
        """The newest complete checkpoint of a stage; incomplete ones are deleted."""
        complete: list[tuple[int, Checkpoint]] = []
        for path in self.stage_path(stage).glob("checkpoint-*"):
            record = _read_commit(path)
            if record is None:
                shutil.rmtree(path)
                continue
            rows = np.load(path / _ROWS, allow_pickle=False) if (path / _ROWS).exists() else None
            complete.append((record["state"]["step"], Checkpoint(path, record, rows)))
        if not complete:
            return None
        _, newest = max(complete, key=lambda item: item[0])
        self.cut_metrics(newest.state["metrics_size"])
        return Checkpoint(newest.path, newest.state["state"], newest.rows)

    def replace_folder(self, path: Path) -> _FolderWriter:
        """A context manager: write into the folder it gives, which takes the place of ``path`` at the end."""
        return _FolderWriter(path)


class _FolderWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + PARTIAL)

    def __enter__(self) -> Path:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            if self._path.exists():
                shutil.rmtree(self._path)
            self._partial.rename(self._path)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def _read_commit(path: Path) -> dict[str, Any] | None:
    if not (path / _COMMIT).is_file():
        return None
    record: dict[str, Any] = json.loads((path / _COMMIT).read_text(encoding="utf-8"))
    for name, size in record["files"].items():
        if not (path / name).is_file() or (path / name).stat().st_size != size:
            return None
    return record


def config_differences(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two configurations as :meth:`TrainConfig.to_dict` gives them, a text for each value."""
    found: list[str] = []
    for key, value in was.items():
        if isinstance(value, Mapping):
            found += config_differences(value, now[key], f"{prefix}{key}.")
        elif value != now[key]:
            found.append(f"{prefix}{key} was {value!r}, is {now[key]!r}")
    return found
