"""The folder of an experiment: what it compares, and the measurements of the runs that are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relkt.data import Level, RetrievalData
from relkt.data.checksum import data_checksum, translations_checksum
from relkt.evaluation import METRICS
from relkt.reproduce.measurement import Measurement
from relkt.reproduce.rows import Row, Run
from relkt.training.config import TrainConfig
from relkt.training.files import PARTIAL, write_atomically

_EXPERIMENT = "experiment.json"


class ExperimentFolder:
    """A folder that holds one experiment. Make one with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(
        cls, path: Path, data: RetrievalData, rows: Sequence[Row], encoders: Mapping[str, str]
    ) -> ExperimentFolder:
        """Start an experiment in a new or empty folder, or go on with the one in it.

        Rows may be added to an experiment; those it has must be the same.

        Args:
            path: The folder.
            data: The data set.
            rows: The rows.
            encoders: Row -> checksum of the weights it starts from; nothing for BM25.

        Raises:
            FileExistsError: If the folder is a file, or holds something else; nothing is touched then.
            ValueError: If the experiment has another data set, or another configuration or encoder for a row; nothing
                is touched then either.
        """
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"output_dir: expected a folder, got the file {path}")
        now: dict[str, Any] = {
            "data": _data_identity(data),
            "rows": {row.name: _row_identity(row, encoders) for row in rows},
        }
        was = _read_experiment(path)
        if was is not None:
            _check_data(path, was["data"], now["data"])
            for row in rows:
                if row.name in was["rows"]:
                    _check_row(path, row, was["rows"][row.name], now["rows"][row.name])
            now["rows"] = was["rows"] | now["rows"]
        if now != was:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / _EXPERIMENT, json.dumps(now, ensure_ascii=False, indent=2) + "\n")
        return cls(path)

    def training_path(self, run: Run) -> Path:
        """The folder of a training run."""
        return self.path / "runs" / run.name

    def read(self, run: Run, test: RetrievalData) -> Measurement | None:
        """The measurement of a run, or None if it is not finished.

        Raises:
            ValueError: If its file was damaged.
        """
        path = self._measured(run)
        if not path.exists():
            return None
        try:
            measurement = Measurement.from_dict(json.loads(path.read_text(encoding="utf-8")))
            expected = (len(METRICS), sum(q.language in measurement.languages for q in test.queries))
            for level in Level:
                if (got := measurement.values[level].shape) != expected:
                    raise ValueError(f"values of {level.value} of shape {got}, expected {expected}")
                if not np.isfinite(measurement.values[level]).all():
                    raise ValueError(f"values of {level.value} that are no numbers")
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: expected a measurement, got {error}; delete it to measure again") from error
        return measurement

    def write(self, run: Run, measurement: Measurement) -> None:
        """Keep the measurement of a run, which is finished with this."""
        path = self._measured(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(measurement.to_dict(), ensure_ascii=False) + "\n")
        self._time(run).unlink(missing_ok=True)

    def seconds(self, run: Run) -> float:
        """Wall time that an unfinished run has taken so far."""
        path = self._time(run)
        return float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0.0

    def write_seconds(self, run: Run, seconds: float) -> None:
        """Keep the wall time of an unfinished run."""
        path = self._time(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(seconds) + "\n")

    def _measured(self, run: Run) -> Path:
        return self.path / "measured" / f"{run.name}.json"

    def _time(self, run: Run) -> Path:
        # A name no run has: rows' names hold no "~".
        return self.path / "measured" / f"{run.name}~seconds.json"


def _read_experiment(path: Path) -> dict[str, Any] | None:
    if (path / _EXPERIMENT).is_file():
        try:
            experiment: dict[str, Any] = json.loads((path / _EXPERIMENT).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path / _EXPERIMENT}: expected JSON, got an error: {error}") from error
        return experiment
    # What is left by a process killed before it wrote the file does not count.
    held = sorted(p.name for p in path.iterdir() if p.name != _EXPERIMENT + PARTIAL) if path.exists() else []
    if held:
        shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        raise FileExistsError(
            f"output_dir: expected a new or empty folder, or that of an experiment, got {path}, which holds {shown}"
        )
    return None


def _data_identity(data: RetrievalData) -> dict[str, str]:
    return {
        "name": data.name,
        "passages, questions and splits": data_checksum(data),
        "translations of passages": translations_checksum(data),
    }


def _row_identity(row: Row, encoders: Mapping[str, str]) -> dict[str, Any]:
    config = None if row.config is None else {k: v for k, v in row.config.to_dict().items() if k != "seed"}
    return {"encoder": encoders.get(row.name), "config": config}


def _check_data(path: Path, was: Mapping[str, str], now: Mapping[str, str]) -> None:
    if found := [f"{name} ({was.get(name)}, not {value})" for name, value in now.items() if was.get(name) != value]:
        raise ValueError(f"data: expected the data set of the experiment in {path}, got another: " + "; ".join(found))


def _check_row(path: Path, row: Row, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    start = f"rows: {row.name!r} is another row in the experiment in {path}"
    if was["encoder"] != now["encoder"]:
        names = {
            name: "BM25" if side["encoder"] is None else side["encoder"] for name, side in (("was", was), ("now", now))
        }
        raise ValueError(
            f"{start}: its encoder was {names['was']}, is {names['now']} (checksums of weights and settings"
            f"{'' if row.encoder is None else f'; {row.encoder}'}); give another output, or another name for the row"
        )
    if (was["config"] is None) != (row.config is None):
        words = {True: "untrained", False: "trained"}
        raise ValueError(f"{start}: it was {words[was['config'] is None]}, is {words[row.config is None]}")
    if row.config is not None:
        stored = TrainConfig.from_dict(was["config"])
        given = replace(row.config, seed=stored.seed)
        if stored != given:
            from relkt.training.records.run_directory import config_differences  # imports torch

            raise ValueError(f"{start}: " + "; ".join(config_differences(stored.to_dict(), given.to_dict())))
