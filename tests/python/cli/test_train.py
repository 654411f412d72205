"""``relkt train``: its configuration, its teacher, its table, and how a run is resumed."""

import json
import re
import shutil

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "--data", "relkt-mini", "--output", "X"],
            "--preset: expected a preset, or --config with a TOML file",
        ),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "demo", "--config", "c.toml"],
            "--preset, --config: expected one of them, got both",
        ),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "nice"],
            "--preset: expected one of best-muse, best-transformer, paper-xquad",
        ),
        (["train", "--data", "relkt-mini", "--output", "X", "--config", "c.toml"], "c.toml"),
        (["train", "--data", "relkt-mini", "--output", "X", "--preset", "paper-xorqa"], "languages: the configuration"),
        (["train", "--data", "beir", "--output", "X", "--preset", "demo"], "path: expected the folder with the files"),
        (["train", "--data", "beir", "--path", "none", "--output", "X", "--preset", "demo"], "none"),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "best-muse", "--teacher", "muse"],
            "--teacher: requires a configuration with a distillation or transfer stage",
        ),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "demo", "--device", "gpu"],
            "--device: expected cpu, or a GPU that",
        ),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "demo", "--languages", "en,de"],
            "languages: the configuration trains ar, es, ru, th, tr, zh, but the loaded data has only en, de",
        ),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message)


def test_languages_option_selects_the_questions_loaded(run, tiny, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("relkt.cli.train._train", lambda data, *_, **__: loaded.append(data))
    result = run(
        "train", "--data", "relkt-mini", "--config", tiny, "--output", tmp_path,
        "--languages", "en, de,th",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert loaded[0].languages == ("en", "de", "th")


@pytest.mark.parametrize(("rank", "printed"), [("0", "the table of passages"), ("1", "")])
def test_only_rank_0_prints_the_table(run, tiny, tmp_path, monkeypatch, rank, printed):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("relkt.cli.train._train", lambda *_, **__: None)
    monkeypatch.setattr("relkt.cli.tables.stages_table", lambda _, level: f"the table of {level.value}s")
    (tmp_path / "results.md").touch()
    shutil.copy(tiny, tmp_path / "config.toml")
    result = run("train", "--data", "relkt-mini", "--config", tiny, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.partition("\n")[0] == printed


def test_paths_are_printed_without_markup_or_line_breaks(run, tmp_path, monkeypatch):
    folder = tmp_path / "[bold]" / ("long" * 60)
    folder.mkdir(parents=True)
    monkeypatch.setattr("relkt.cli.train._train", lambda *_, **__: True)
    result = run("train", "--data", "relkt-mini", "--preset", "demo", "--output", folder)
    assert f"The model is in {folder / 'model'}, the plots are in {folder / 'plots'}.\n" in result.stdout


def test_teacher_option_loads_another_model(run, tmp_path, monkeypatch):
    def train(model, data, *, teacher, **_):
        (tmp_path / "seen").write_text(f"{model} learns {data.name} from {teacher}")

    monkeypatch.setattr("relkt.training.run.train", train)
    monkeypatch.setattr("relkt.encoders.load_encoder", lambda name, device: f"{name} on {device}")
    command = ["train", "--data", "relkt-mini", "--preset", "demo", "--output", tmp_path, "--device", "cpu"]
    assert run(*command, "--teacher", "me/strong").exit_code == 0
    assert (tmp_path / "seen").read_text() == "muse on cpu learns relkt-mini from me/strong on cpu"
    assert run(*command).exit_code == 0
    assert (tmp_path / "seen").read_text() == "muse on cpu learns relkt-mini from None"


def test_the_best_preset_depends_on_the_model(run, tmp_path, monkeypatch):
    def preset(name):
        raise ValueError(f"asked for {name}")

    monkeypatch.setattr("relkt.training.config.TrainConfig.preset", preset)
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    for model, name in {"muse": "best-muse", tmp_path: "best-transformer"}.items():
        result = run("train", "--data", "relkt-mini", "--preset", "best", "--output", "run", "--model", model)
        assert f"asked for {name}" in result.stderr


def test_resume_needs_a_run(run, tmp_path):
    """A misspelt folder must not start a new run with default settings."""
    result = run("train", "--data", "relkt-mini", "--output", tmp_path / "rn", "--resume")
    assert result.exit_code == 2
    assert f"--output: {tmp_path / 'rn'} is not the folder of a run" in result.stderr
    assert not (tmp_path / "rn").exists()


@pytest.mark.slow
def test_train_then_resume_then_evaluate(run, tiny, tmp_path):
    command = ["train", "--data", "relkt-mini", "--config", tiny, "--output", tmp_path / "run"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert re.search("language .* before .* warm-up", result.stdout)
    for name in ("config.toml", "metrics.jsonl", "results.json", "results.md", "model", "plots"):
        assert (tmp_path / "run" / name).exists(), name
    report = json.loads((tmp_path / "run" / "results.json").read_text())["warmup"]["passage"]
    assert re.search(rf"│ th .* {report['estimates']['P@1']['th']['value']:.3f} │", result.stdout)
    assert f"every level and metric in {tmp_path / 'run' / 'results.md'}" in result.stdout.replace("\n", "")
    again = run(*command)
    assert again.exit_code == 2
    assert "error: " in again.stderr
    resumed = run(*command, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout == result.stdout
    seeded = run(*command, "--resume", "--seed", "7")
    assert seeded.exit_code == 2
    evaluated = run(
        "evaluate", tmp_path / "run" / "model", "--data", "relkt-mini", "--level", "passage", "--languages", "en,de,th"
    )
    assert evaluated.exit_code == 0, evaluated.output
    # The trained languages come from the run's configuration.
    assert "trained" in evaluated.stdout
