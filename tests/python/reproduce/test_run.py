"""An experiment from end to end: its results, its resumption, and the arguments it refuses."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from relkt.data import Level, RetrievalData, Split, load_data
from relkt.encoders import load_encoder
from relkt.evaluation import METRICS, evaluate
from relkt.reproduce import Mean, Progress, Row, Run, reproduce
from relkt.training import Stage, TrainConfig

CHILD = Path(__file__).parent / "reproduce_child.py"


def untimed(path: Path) -> dict[str, Any]:
    """The content of results.json without times."""
    results = json.loads((path / "results.json").read_text())
    for row in results["rows"].values():
        for run in row["runs"]:
            del run["seconds"], run["finished"]
    return results


def measured(path: Path) -> dict[str, Any]:
    """The values of all questions."""
    files = {file.name: json.loads(file.read_text()) for file in (path / "measured").iterdir()}
    return {name: content["values"] for name, content in files.items()}


class Recorded(Progress):
    def __init__(self, interrupt: tuple[str, Stage, int] | None = None) -> None:
        self.planned: list[tuple[int, int]] = []
        self.started: list[str] = []
        self.finished: list[str] = []
        self.skipped: list[Stage] = []
        self._interrupt = interrupt
        self._stage: Stage | None = None

    @override
    def runs_planned(self, total: int, finished: int) -> None:
        self.planned.append((total, finished))

    @override
    def run_started(self, run: Run) -> None:
        self.started.append(run.name)

    @override
    def run_finished(self, run: Run) -> None:
        self.finished.append(run.name)

    @override
    def stage_started(self, stage: Stage, total_steps: int, done_steps: int = 0) -> None:
        self._stage, self._step = stage, done_steps

    @override
    def stage_skipped(self, stage: Stage) -> None:
        self.skipped.append(stage)

    @override
    def step(self, loss: float) -> None:
        self._step += 1
        if (self.started[-1], self._stage, self._step) == self._interrupt:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_files_of_an_experiment(finished: Any) -> None:
    files = {str(p.relative_to(finished.path)) for p in finished.path.rglob("*") if p.is_file()}
    plots = [*(f"languages-{level.value}" for level in Level), "trained-untrained", "learning-curves"]
    expected = {"experiment.json", "results.json", "results.md"}
    expected |= {f"measured/{name}.json" for name in ("bm25", "plain", "tuned-seed-1", "tuned-seed-2")}
    expected |= {f"plots/{name}.{suffix}" for name in plots for suffix in ("png", "svg")}
    assert {name for name in files if not name.startswith("runs/")} == expected
    assert {name.split("/")[1] for name in files if name.startswith("runs/")} == {"tuned-seed-1", "tuned-seed-2"}
    assert not (finished.path.parent / "experiment.lock").exists()
    results = untimed(finished.path)
    assert results["command"] == "the command"
    assert set(results["rows"]) == {"bm25", "plain", "tuned"}
    machine = results["rows"]["tuned"]["runs"][0]["machine"]
    assert machine["threads"] == 1
    assert {"python", "relkt", "torch"} <= set(machine["versions"])


@pytest.mark.slow
def test_the_numbers_are_those_of_evaluate(finished: Any, data: RetrievalData) -> None:
    """Each trained model is loaded from its folder and evaluated again."""
    values: dict[int, dict[Level, dict[str, float]]] = {}
    for seed in (1, 2):
        model = load_encoder(finished.path / "runs" / f"tuned-seed-{seed}" / "model", device="cpu")
        reports = {level: evaluate(model, data, level=level, num_resamples=0) for level in Level}
        values[seed] = {
            level: {language: report.value("P@1", language) for language in report.languages}
            for level, report in reports.items()
        }
    assert values[1] != values[2]
    for level in Level:
        for language in ("en", "de", "es", "tr"):
            cell = finished.result.cell("tuned", level, language)
            by_seed = [values[seed][level][language] for seed in (1, 2)]
            assert cell.by_run == pytest.approx(by_seed)
            assert cell.value == pytest.approx(statistics.mean(by_seed))
            assert cell.deviation == pytest.approx(statistics.stdev(by_seed))
        means = [statistics.mean(values[seed][level][language] for language in ("de", "es")) for seed in (1, 2)]
        assert finished.result.cell("tuned", level, Mean.TRAINED).by_run == pytest.approx(means)


@pytest.mark.slow
def test_untrained_rows_run_once_and_bm25_answers_english_only(finished: Any, data: RetrievalData) -> None:
    plain, bm25 = finished.result.measurements["plain"], finished.result.measurements["bm25"]
    assert [run.seed for run in (*plain, *bm25)] == [None, None]
    cell = finished.result.cell("plain", Level.PASSAGE, "tr")
    assert cell.deviation is None
    report = evaluate(load_encoder(finished.result.rows[1].encoder, device="cpu"), data, num_resamples=0)
    assert cell.value == pytest.approx(report.value("P@1", "tr"))
    assert finished.result.cell("bm25", Level.PASSAGE, "en") is not None
    for column in ("de", Mean.TRAINED, Mean.OTHERS, Mean.ALL):
        assert finished.result.cell("bm25", Level.PASSAGE, column) is None


@pytest.mark.slow
def test_stages_and_curve_of_a_run(finished: Any) -> None:
    (first, _) = finished.result.measurements["tuned"].values()
    assert [stage.name for stage in first.stages] == ["before", "warmup", "contrastive"]
    assert [stage.dev_p1 for stage in first.stages] == sorted(stage.dev_p1 for stage in first.stages)
    # Training starts from the untrained row and ends with the measured weights.
    for stage, row in ((first.stages[0], "plain"), (first.stages[-1], "tuned")):
        for level in Level:
            cell = finished.result.cell(row, level, "es")
            assert stage.test[level.value]["es"] == pytest.approx(cell.by_run[0])
    # Two evaluations in each stage after the start: 3 steps of 96 questions, then 5 or more of 6 documents.
    steps = [step for step, _ in first.curve]
    assert steps[0] == 0
    assert len(steps) == 5
    assert steps == sorted(set(steps))
    assert steps[2] == 3
    assert first.curve[0][1] == first.stages[0].dev_p1


@pytest.mark.slow
def test_the_same_call_again_does_nothing(
    finished: Any, data: RetrievalData, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    shutil.rmtree(copy / "runs")  # nothing needs them once they are measured
    written = (copy / "results.md").read_bytes()
    progress = Recorded()
    arguments: dict[str, Any] = {"output_dir": copy, "num_resamples": 200, "command": "the command"}
    reproduce(data, rows=rows, seeds=(1, 2), progress=progress, **arguments)
    assert (progress.planned, progress.started) == ([(4, 4)], [])
    assert (copy / "results.md").read_bytes() == written
    assert (copy / "results.json").read_bytes() == (finished.path / "results.json").read_bytes()
    # First some rows, then one more seed.
    fewer = reproduce(data, rows=rows[:2], **arguments)
    assert [row.name for row in fewer.rows] == ["bm25", "plain"]
    assert not list((copy / "plots").glob("learning-curves*"))
    more = reproduce(data, rows=rows[2:], seeds=(1, 3), progress=(progress := Recorded()), **arguments)
    assert (progress.planned, progress.started, progress.finished) == ([(2, 1)], ["tuned-seed-3"], ["tuned-seed-3"])
    assert [run.seed for run in more.measurements["tuned"]] == [1, 3]
    assert set(json.loads((copy / "experiment.json").read_text())["rows"]) == {"bm25", "plain", "tuned"}


@pytest.mark.slow
def test_an_interrupted_experiment_is_resumed(
    finished: Any, data: RetrievalData, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"output_dir": tmp_path / "x", "rows": rows[1:], "seeds": (1,), "num_resamples": 1}
    stopped = Recorded(interrupt=("tuned-seed-1", Stage.CONTRASTIVE, 4))
    with pytest.raises(KeyboardInterrupt):
        reproduce(data, progress=stopped, **arguments)
    assert stopped.finished == ["plain"]
    (clock,) = (tmp_path / "x" / "measured").glob("*~seconds.json")
    spent = json.loads(clock.read_text())
    assert spent > 0
    resumed = Recorded()
    result = reproduce(data, progress=resumed, **arguments)
    assert resumed.planned == [(2, 1)]
    assert resumed.started == resumed.finished == ["tuned-seed-1"]
    assert resumed.skipped == [Stage.WARMUP]
    assert not clock.exists()
    (measurement,) = result.measurements["tuned"].values()
    assert measurement.seconds > spent
    undisturbed = measured(finished.path)
    assert measured(tmp_path / "x") == {name: undisturbed[name] for name in ("plain.json", "tuned-seed-1.json")}


@pytest.mark.slow
def test_a_killed_experiment_is_resumed(
    finished: Any, data: RetrievalData, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    """kill -9 in the middle of a stage, and between a finished training run and its measurement."""
    given = {"data": data, "output_dir": tmp_path / "x", "rows": rows, "seeds": (1, 2), "num_resamples": 200}
    (tmp_path / "arguments").write_bytes(pickle.dumps(given | {"command": "the command"}))
    # The fork server imports slow modules once, and has no threads when it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["relkt.training.run"])

    def child(kill: dict[str, Any] | None) -> int | None:
        arguments = {"arguments": str(tmp_path / "arguments"), "kill": kill}
        process = context.Process(target=runpy.run_path, args=(str(CHILD), {"ARGUMENTS": arguments}, "__main__"))
        process.start()
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
            process.join()
            pytest.fail("the experiment took more than 120 s")
        return process.exitcode

    assert child({"run": "tuned-seed-1", "activity": "saving", "times": 2}) == -signal.SIGKILL
    assert child({"run": "tuned-seed-2", "activity": "loading the encoder", "times": 1}) == -signal.SIGKILL
    assert (tmp_path / "x" / "measured" / "tuned-seed-1.json").exists()
    assert (tmp_path / "x.lock").exists()  # left by the killed process; does not block the next one
    assert child(None) == 0
    assert measured(tmp_path / "x") == measured(finished.path)
    assert untimed(tmp_path / "x") == untimed(finished.path)


@pytest.mark.slow
def test_another_experiment_is_refused(
    finished: Any, data: RetrievalData, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}
    tuned = rows[2]
    assert tuned.config is not None
    other = replace(tuned, config=replace(tuned.config, warmup=replace(tuned.config.warmup, epochs=7), seed=5))
    model = load_encoder(tuned.encoder or "", device="cpu")
    model.prompts["query"] = "ask: "
    model.save_pretrained(str(tmp_path / "other"), create_model_card=False)
    half = load_data("relkt-mini", languages=["en", "de", "es"])
    for changed, of, message in (
        (other, data, r"'tuned' differs from the row of this name in .*: warmup\.epochs was 1, is now 7$"),
        (
            replace(tuned, encoder=str(tmp_path / "other")),
            data,
            "'tuned' differs from the row .* its encoder was [0-9a-f]+, is now",
        ),
        (Row(name="bm25", encoder=tuned.encoder), data, "'bm25' differs from the row .* its encoder was BM25, is now"),
        (replace(tuned, config=None), data, "'tuned' differs from the row .*: it was trained, is now untrained"),
        (
            tuned,
            half,
            "data set of the experiment in .*, got one with different passages, questions and splits",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            reproduce(of, output_dir=finished.path, rows=[changed], seeds=(1,))
    assert {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_damaged_measurement_is_named(
    finished: Any, data: RetrievalData, rows: tuple[Row, ...], tmp_path: Path
) -> None:
    for number, damage in enumerate(
        (lambda c: c | {"languages": ["en"]}, lambda c: c | {"values": {}}, lambda c: {k: c[k] for k in ("values",)})
    ):
        copy = tmp_path / str(number)
        shutil.copytree(finished.path, copy, ignore=shutil.ignore_patterns("runs"))
        file = copy / "measured" / "plain.json"
        file.write_text(json.dumps(damage(json.loads(file.read_text()))))
        with pytest.raises(
            ValueError, match=r"plain\.json: expected a measurement, got .*; delete it to measure again"
        ):
            reproduce(data, output_dir=copy, rows=rows[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": []}, "rows: expected at least one row"),
        ({"rows": [Row(name="a"), Row(name="A")]}, "rows: expected different names, got 'A' twice"),
        ({"seeds": []}, "seeds: expected at least one seed"),
        ({"seeds": [1, 1]}, r"seeds: expected at least one seed, and each seed once, got \[1, 1\]"),
        ({"seeds": [-1]}, "seeds: expected integers from 0 to 4294967295, got -1"),
        ({"num_resamples": 0}, "num_resamples: expected at least 1, got 0"),
        ({"trained_languages": ["de", "fr"]}, "trained_languages: expected languages of data set .*, got fr"),
        ({"trained_languages": "de"}, "trained_languages: expected a list of language codes, got the text 'de'"),
        (
            {"rows": [Row(name="x", encoder="none", config=TrainConfig(languages=("fr",)))]},
            "rows: 'x' trains on fr, but the train split of data set 'relkt-mini' has only",
        ),
        (
            {"rows": [Row(name=n, encoder="none", config=TrainConfig(languages=(n,))) for n in ("de", "es")]},
            r"trained_languages: expected a list, since rows train on different languages \(de: de; es: es\), got None",
        ),
        ({"rows": [Row(name="x", encoder="./none")]}, "no such folder"),
    ],
)
def test_bad_arguments(data: RetrievalData, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        reproduce(data, **{"output_dir": tmp_path / "x", "rows": [Row(name="bm25")], **changes})
    assert not list(tmp_path.iterdir())


def test_one_of_several_processes_is_refused(
    data: RetrievalData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="WORLD_SIZE: expected 1, since each run is one process, got 2"):
        reproduce(data, output_dir=tmp_path / "x", rows=[Row(name="bm25")])
    assert not list(tmp_path.iterdir())


def test_other_files_in_the_folder_are_refused(data: RetrievalData, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match=r"one with an experiment, got .*mine, which holds notes\.txt"):
        reproduce(data, output_dir=tmp_path / "mine", rows=[Row(name="bm25")])
    with pytest.raises(FileExistsError, match="expected a folder, got the file"):
        reproduce(data, output_dir=tmp_path / "file", rows=[Row(name="bm25")])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_data_without_test_or_english_questions(data: RetrievalData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected questions in the test split of data set 'relkt-mini', got 0"):
        reproduce(data.select(split=Split.DEV), output_dir=tmp_path, rows=[Row(name="bm25")])
    with pytest.raises(ValueError, match=r"'bm25' needs English questions, and the test split of .* has 0"):
        reproduce(data.select(languages=["de"]), output_dir=tmp_path, rows=[Row(name="bm25")])


@pytest.mark.slow
def test_prompts_are_for_encoders_without_their_own(data: RetrievalData, encoder: str, tmp_path: Path) -> None:
    model = load_encoder(encoder, device="cpu")
    model.prompts |= {"query": "ask ", "document": "tell "}
    model.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    prompts = {"query": "ask ", "document": "tell "}
    rows = [
        Row(name="given", encoder=encoder, prompts=prompts),
        Row(name="own", encoder=str(tmp_path / "prompted"), prompts={"query": "x", "document": "y"}),
        Row(name="none", encoder=encoder),
    ]
    result = reproduce(data, output_dir=tmp_path / "out", rows=rows, num_resamples=1)
    values = {
        row: [result.cell(row, Level.PASSAGE, "de", metric) for metric in METRICS] for row in ("given", "own", "none")
    }
    assert values["given"] == values["own"] != values["none"]


@pytest.mark.slow
def test_importing_loads_no_torch() -> None:
    script = "import sys, relkt.reproduce; print([m for m in ('torch', 'matplotlib', 'bm25s') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
