"""The command line: what it prints, what it writes, and how it fails."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.data import load_data

COMMANDS = ["demo", "train", "evaluate", "encode"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


def test_version_and_help(run):
    assert run("--version").stdout == f"relkt {relkt.__version__}\n"
    overview = run("--help").stdout
    for command in COMMANDS:
        assert command in overview
        page = run(command, "--help")
        assert page.exit_code == 0
        assert "Example:" in page.stdout


def test_the_program_and_the_module_start():
    out = subprocess.run([sys.executable, "-m", "relkt", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout == f"relkt {relkt.__version__}\n"


def test_starting_loads_no_torch():
    script = "import sys; from relkt.cli import app; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


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
        (["train", "--data", "relkt-mini", "--output", "X", "--preset", "nice"], "preset: expected one of paper-xquad"),
        (["train", "--data", "relkt-mini", "--output", "X", "--config", "c.toml"], "c.toml"),
        (["train", "--data", "relkt-mini", "--output", "X", "--preset", "paper-xorqa"], "languages: the configuration"),
        (["train", "--data", "beir", "--output", "X", "--preset", "demo"], "path: data set 'beir' needs the folder"),
        (["train", "--data", "beir", "--path", "none", "--output", "X", "--preset", "demo"], "none"),
        (["evaluate", "./no-model", "--data", "relkt-mini"], "'./no-model'"),
        (["evaluate", "muse", "--data", "relkt-mini", "--languages", "fr"], "languages: data set 'relkt-mini' has no"),
        (["evaluate", "muse", "--data", "relkt-mini", "--run", "r.trec"], "--run, --qrels: expected one --level"),
        (["encode", "missing.txt", "--output", "x.npy"], "missing.txt"),
        (["encode", "empty.txt", "--output", "x.npy"], "empty.txt: expected at least one line, got an empty file"),
        (["encode", "gap.txt", "--output", "x.npy"], "gap.txt: line 2: expected a text, got an empty one"),
        (["encode", "broken.jsonl", "--output", "x.npy"], "broken.jsonl: line 2: not JSON"),
        (
            ["encode", "other.jsonl", "--output", "x.npy"],
            "other.jsonl: line 1: expected an object with a text under 'text'",
        ),
        (["encode", "good.txt", "--output", "taken.npy"], "--output: taken.npy exists; give --overwrite to replace it"),
        (["encode", "good.txt", "--output", "x.npy", "--batch-size", "0"], "--batch-size: expected an integer"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    files = {
        "empty.txt": "",
        "gap.txt": "one\n\nthree\n",
        "good.txt": "one\n",
        "broken.jsonl": '{"text": "one"}\n{"text": \n',
        "other.jsonl": '{"body": "one"}\n',
        "taken.npy": "mine",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    # Nothing was touched.
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_usage_errors_have_the_same_exit_code(run):
    assert run("train").exit_code == 2
    assert run("evaluate", "muse", "--data", "nothing").exit_code == 2


def test_traceback_on_request(run, tmp_path):
    result = run("--traceback", "encode", tmp_path / "missing.txt", "--output", tmp_path / "x.npy")
    assert isinstance(result.exception, FileNotFoundError)


def test_encode_then_search(run, tmp_path):
    data = load_data("relkt-mini")
    passages = [p.text for p in data.passages[:12]]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in passages), encoding="utf-8")
    (tmp_path / "lines.txt").write_text("\n".join(passages) + "\n", encoding="utf-8")
    for source in (corpus, tmp_path / "lines.txt"):
        result = run("encode", source, "--output", tmp_path / f"{source.name}.npy")
        assert result.exit_code == 0, result.output
    rows = np.load(tmp_path / "corpus.jsonl.npy")
    assert rows.dtype == np.float32
    assert rows.shape == (12, 512)
    assert np.array_equal(rows, np.load(tmp_path / "lines.txt.npy"))
    assert not list(tmp_path.glob("*.partial"))
    # Each row finds itself.
    assert relkt.search(rows, rows, 1).indices[:, 0].tolist() == list(range(12))


def test_evaluate_writes_what_it_says(run, tmp_path):
    result = run(
        "evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--languages", "en,th",
        "--json", tmp_path / "r.json", "--run", tmp_path / "r.trec", "--qrels", tmp_path / "q.trec",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "P@1" in result.stdout
    (report,) = json.loads((tmp_path / "r.json").read_text())
    lines = [line.split() for line in (tmp_path / "r.trec").read_text().splitlines()]
    queries = load_data("relkt-mini", languages=["en", "th"]).select(split="test").queries
    assert {line[0] for line in lines} == {q.id for q in queries}
    # P@1 of the report, recomputed from the two exported files.
    judged = {(line.split()[0], line.split()[2]) for line in (tmp_path / "q.trec").read_text().splitlines()}
    first = {line[0]: line[2] for line in lines if line[3] == "1"}
    assert set(first) == {q.id for q in queries}
    for language in ("en", "th"):
        ids = [q.id for q in queries if q.language == language]
        p1 = np.mean([(query, first[query]) in judged for query in ids])
        assert f"{p1:.3f}"[1:] in result.stdout
    assert "en" in json.dumps(report)


TINY = """
languages = ["en", "de"]
level = "passage"
stages = ["warmup"]
freeze_embeddings = true
[warmup]
epochs = 1
batch_size = 64
num_negatives = 1
"""


def test_train_then_resume_then_evaluate(run, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = ["train", "--data", "relkt-mini", "--config", tmp_path / "tiny.toml", "--output", tmp_path / "run"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "after warm-up" in result.stdout
    for name in ("config.toml", "metrics.jsonl", "results.json", "results.md", "model", "plots"):
        assert (tmp_path / "run" / name).exists(), name
    assert result.stdout.startswith((tmp_path / "run" / "results.md").read_text().strip()[:40])
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
    # The languages trained are known from the run's configuration.
    assert "trained" in evaluated.stdout
