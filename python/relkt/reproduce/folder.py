"""The folder of an experiment: its manifest, and the measurements of finished runs."""

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
from relkt.storage import Manifest, atomic_write, differences, list_names
from relkt.training.config import TrainConfig

_EXPERIMENT = "experiment.json"


class ExperimentFolder:
    """A folder that holds one experiment. Make one with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(
        cls, path: Path, data: RetrievalData, rows: Sequence[Row], encoders: Mapping[str, str]
    ) -> ExperimentFolder:
        """Start an experiment in a new or empty folder, or resume the one in it.

        Rows may be added to an experiment; its existing rows must not change.

        Args:
            path: The folder.
            data: The data set.
            rows: The rows.
            encoders: Row -> checksum of the encoder it starts from; BM25 has no entry.

        Raises:
            FileExistsError: If ``path`` is a file, or the folder holds other files. Nothing is changed then.
            ValueError: If the experiment has another data set, if a row has another configuration or encoder there, or
                if the manifest is damaged. Nothing is changed then.
        """
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"output_dir: expected a folder, got the file {path}")
        now: dict[str, Any] = {
            "data": _data_identity(data),
            "rows": {row.name: _row_identity(row, encoders) for row in rows},
        }
        manifest = Manifest(path, _EXPERIMENT)
        was = manifest.read()
        if was is None:
            if others := manifest.others():
                raise FileExistsError(
                    "output_dir: expected a new or empty folder, or one with an experiment, got "
                    f"{path}, which holds {list_names(others)}"
                )
        else:
            _check_data(path, was["data"], now["data"])
            for row in rows:
                if row.name in was["rows"]:
                    _check_row(path, row, was["rows"][row.name], now["rows"][row.name])
            now["rows"] = was["rows"] | now["rows"]
        if now != was:
            manifest.write(now)
        return cls(path)

    def training_path(self, run: Run) -> Path:
        """The folder of a training run."""
        return self.path / "runs" / run.name

    def read(self, run: Run, test: RetrievalData) -> Measurement | None:
        """The measurement of a run; None if the run is not finished.

        Raises:
            ValueError: If the file is damaged.
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
                    raise ValueError(f"values of {level.value} that are not finite")
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: expected a measurement, got {error}; delete it to measure again") from error
        return measurement

    def write(self, run: Run, measurement: Measurement) -> None:
        """Write the measurement of a run, which finishes the run."""
        path = self._measured(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(measurement.to_dict(), ensure_ascii=False) + "\n")
        self._time(run).unlink(missing_ok=True)

    def seconds(self, run: Run) -> float:
        """Wall time of an unfinished run so far."""
        path = self._time(run)
        return float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0.0

    def write_seconds(self, run: Run, seconds: float) -> None:
        """Write the wall time of an unfinished run."""
        path = self._time(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(seconds) + "\n")

    def _measured(self, run: Run) -> Path:
        return self.path / "measured" / f"{run.name}.json"

    def _time(self, run: Run) -> Path:
        # Row names contain no "~", so the name is unique.
        return self.path / "measured" / f"{run.name}~seconds.json"


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
    if found := [difference.name for difference in differences(was, now)]:
        raise ValueError(
            f"data: expected the data set of the experiment in {path}, got one with different {'; '.join(found)}"
        )


def _check_row(path: Path, row: Row, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    start = f"rows: {row.name!r} differs from the row of this name in {path}"
    if was["encoder"] != now["encoder"]:
        names = {name: side["encoder"] or "BM25" for name, side in (("was", was), ("now", now))}
        raise ValueError(
            f"{start}: its encoder was {names['was']}, is now {names['now']} (checksums of weights and settings"
            f"{'' if row.encoder is None else f'; {row.encoder}'}); choose another output, or another name for the row"
        )
    if (was["config"] is None) != (row.config is None):
        words = {True: "untrained", False: "trained"}
        raise ValueError(f"{start}: it was {words[was['config'] is None]}, is now {words[row.config is None]}")
    if row.config is not None:
        stored = TrainConfig.from_dict(was["config"])
        given = replace(row.config, seed=stored.seed)
        if found := differences(stored.to_dict(), given.to_dict()):
            raise ValueError(f"{start}: {'; '.join(map(str, found))}")
