"""The command line: what it prints, what it writes, and how it fails."""

import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.cli.encode import read_texts
from relkt.cli.evaluate import trained_in
from relkt.data import DataError, Passage, Query, RetrievalData, load_data
from relkt.data.lareqa import LANGUAGES

COMMANDS = ["demo", "train", "evaluate", "encode", "mine", "reproduce", "export", "upload", "download"]


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
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "nice"],
            "preset: expected one of best-muse, best-transformer, paper-xquad",
        ),
        (["train", "--data", "relkt-mini", "--output", "X", "--config", "c.toml"], "c.toml"),
        (["train", "--data", "relkt-mini", "--output", "X", "--preset", "paper-xorqa"], "languages: the configuration"),
        (["train", "--data", "beir", "--output", "X", "--preset", "demo"], "path: expected the folder with the files"),
        (["train", "--data", "beir", "--path", "none", "--output", "X", "--preset", "demo"], "none"),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "best-muse", "--teacher", "muse"],
            "--teacher: the configuration has no transfer stage",
        ),
        (["demo", "--ask", " "], "--ask: expected a question, got an empty text"),
        (["evaluate", "./no-model", "--data", "relkt-mini"], "'./no-model'"),
        (["evaluate", "muse", "--data", "relkt-mini", "--languages", "fr"], "languages: data set 'relkt-mini' has no"),
        (["evaluate", "muse", "--data", "relkt-mini", "--run", "r.trec"], "--run, --qrels: expected one --level"),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--json", "none/r.json"],
            "--json: the folder of none/r.json does not exist",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--qrels", "taken.npy"],
            "--qrels: taken.npy exists; give --overwrite to replace it",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--run", "x", "--qrels", "./x"],
            "--qrels: expected another file than --run's, got x for both",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--trained-languages", "en,fr"],
            "--trained-languages: no question evaluated is in fr; expected languages among en, ar",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--trained-languages", ""],
            "--trained-languages: expected at least one language code, got an empty value",
        ),
        (["evaluate", "muse", "--data", "relkt-mini", "--device", "gpu"], "--device: expected cpu, or a GPU that"),
        (["evaluate", "muse", "--data", "relkt-mini", "--device", "cuda:99"], "--device: expected cpu, or a GPU that"),
        (["encode", "good.txt", "--output", "x.npy", "--device", "hpu"], "--device: expected cpu, or a GPU that"),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "demo", "--device", "gpu"],
            "--device: expected cpu, or a GPU that",
        ),
        (
            ["train", "--data", "relkt-mini", "--output", "X", "--preset", "demo", "--languages", "en,de"],
            "languages: the configuration trains ar, es, ru, th, tr, zh, which the data set does not have",
        ),
        (["encode", "good.txt", "--output", "none/x.npy"], "--output: the folder of none/x.npy does not exist"),
        (["encode", "latin.txt", "--output", "x.npy"], "latin.txt, line 1: expected UTF-8 text"),
        (["encode", "half.jsonl", "--output", "x.npy"], "half.jsonl, line 1: expected Unicode text in 'text'"),
        (["encode", "gap.jsonl", "--output", "x.npy"], "gap.jsonl, line 2: expected a text, got an empty one"),
        (["encode", "missing.txt", "--output", "x.npy"], "missing.txt: file not found"),
        (["encode", "empty.txt", "--output", "x.npy"], "empty.txt: expected at least one line, got an empty file"),
        (["encode", "gap.txt", "--output", "x.npy"], "gap.txt, line 2: expected a text, got an empty one"),
        (["encode", "broken.jsonl", "--output", "x.npy"], "broken.jsonl, line 2, column 8: expected a JSON object"),
        (
            ["encode", "other.jsonl", "--output", "x.npy"],
            "other.jsonl, line 1: expected the field 'text', got only 'body'",
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
        "gap.jsonl": '{"text": "one"}\n\n{"text": "three"}\n',
        "half.jsonl": '{"text": "\\ud800"}\n',
        "latin.txt": "ü\n",
        "broken.jsonl": '{"text": "one"}\n{"text"; "two"}\n',
        "other.jsonl": '{"body": "one"}\n',
        "taken.npy": "mine",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    # Nothing was touched.
    assert {path.name: path.read_text(encoding="latin-1") for path in tmp_path.iterdir()} == files


def test_usage_errors_have_the_same_exit_code(run):
    assert run("train").exit_code == 2
    assert run("evaluate", "muse", "--data", "nothing").exit_code == 2


def test_traceback_on_request(run, tmp_path):
    result = run("--traceback", "encode", tmp_path / "missing.txt", "--output", tmp_path / "x.npy")
    assert isinstance(result.exception, DataError)


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
    # Each row finds itself.
    assert relkt.search(rows, rows, 1).indices[:, 0].tolist() == list(range(12))


def test_a_byte_order_mark_is_not_part_of_the_first_text(tmp_path):
    (tmp_path / "lines.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8-sig")
    (tmp_path / "lines.txt").write_text("one\r\ntwo", encoding="utf-8-sig")
    assert read_texts(tmp_path / "lines.jsonl", "text") == ["one", "two"]
    assert read_texts(tmp_path / "lines.txt", "text") == ["one", "two"]


# The package's attribute "app" is the program, not the module.
APP = importlib.import_module("relkt.cli.app")


@pytest.fixture
def ones(monkeypatch):
    """An encoder that costs nothing: every text is (1, 1)."""
    import relkt.encoders

    def encode(_, texts, **__):
        return np.ones((len(texts), 2), np.float32)

    monkeypatch.setattr(relkt.encoders, "load_encoder", lambda *_, **__: None)
    monkeypatch.setattr(relkt.encoders, "encode_queries", encode)
    monkeypatch.setattr(relkt.encoders, "encode_passages", encode)


@pytest.mark.usefixtures("ones")
def test_encode_touches_no_other_file(run, tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    (tmp_path / "x.npy.partial").write_text("mine")
    result = run("encode", tmp_path / "lines.txt", "--output", tmp_path / "x.npy")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"lines.txt", "x.npy", "x.npy.partial"}
    assert (tmp_path / "x.npy.partial").read_text() == "mine"
    # Readable for whom any new file is.
    assert (tmp_path / "x.npy").stat().st_mode == (tmp_path / "lines.txt").stat().st_mode


@pytest.mark.usefixtures("ones")
def test_paths_are_shown_as_they_are(run, tmp_path, monkeypatch):
    # Neither taken for markup nor broken at the end of a line.
    folder = tmp_path / "[bold]" / ("long" * 60)
    folder.mkdir(parents=True)
    (tmp_path / "lines.txt").write_text("one\n")
    result = run("encode", tmp_path / "lines.txt", "--output", folder / "x.npy")
    assert result.stderr.endswith(f"wrote {folder / 'x.npy'}: 1 rows of 2 float32 values\n")
    monkeypatch.setattr(APP, "_train", lambda *_, **__: True)
    result = run("train", "--data", "relkt-mini", "--preset", "demo", "--output", folder)
    assert f"The model is in {folder / 'model'}, the plots are in {folder / 'plots'}.\n" in result.stdout


def test_train_loads_the_languages_named(run, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(APP, "_train", lambda data, *_, **__: loaded.append(data))
    (tmp_path / "tiny.toml").write_text(TINY)
    result = run(
        "train", "--data", "relkt-mini", "--config", tmp_path / "tiny.toml", "--output", tmp_path,
        "--languages", "en, de,th",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert loaded[0].languages == ("en", "de", "th")


@pytest.mark.parametrize(("rank", "printed"), [("0", "the table of passages"), ("1", "")])
def test_of_several_processes_one_prints_the_table(run, tmp_path, monkeypatch, rank, printed):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(APP, "_train", lambda *_, **__: None)
    monkeypatch.setattr("relkt.cli.tables.stages_table", lambda _, level: f"the table of {level.value}s")
    (tmp_path / "results.md").touch()
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "config.toml").write_text(TINY)
    result = run("train", "--data", "relkt-mini", "--config", tmp_path / "tiny.toml", "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.partition("\n")[0] == printed


@pytest.mark.usefixtures("ones")
def test_the_run_holds_k_ranks_and_replaces_a_file_only_on_request(run, tmp_path):
    command = ["evaluate", "muse", "--data", "relkt-mini", "--languages", "en", "--level", "passage"]
    command += ["--run", tmp_path / "r.trec"]
    for k in (None, 25):
        result = run(*command, *([] if k is None else ["--k", k, "--overwrite"]))
        assert result.exit_code == 0, result.output
        lines = [line.split() for line in (tmp_path / "r.trec").read_text().splitlines()]
        assert {int(line[3]) for line in lines} == set(range(1, (k or 10) + 1))
    assert run(*command).exit_code == 2
    assert run(*command, "--overwrite", "--k", 9).exit_code == 2
    assert len((tmp_path / "r.trec").read_text().splitlines()) == len(lines)


def test_the_languages_trained_are_those_of_the_model_s_run(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text(TINY)
    (tmp_path / "model").mkdir()
    # A configuration of something else, in a folder that happens to be the current one.
    monkeypatch.chdir(tmp_path)
    assert trained_in("muse") is None
    assert trained_in("model") is None
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "other").mkdir()
    assert trained_in("muse") is None
    assert trained_in("other") is None
    assert trained_in("model") == trained_in(str(tmp_path / "model")) == ("en", "de")
    monkeypatch.chdir(tmp_path / "model")
    assert trained_in(".") == ("en", "de")


def test_the_demo_s_table_says_how_many_passages_there_are(tmp_path):
    from relkt.cli.tables import gains_table
    from relkt.data import Level
    from relkt.evaluation import evaluate_embeddings
    from relkt.training import TrainConfig

    passages = tuple(Passage(f"p{row}", "text", "d") for row in range(7))
    data = RetrievalData("toy", passages, (Query("q", "?", "en", "q"),), {"q": {"p0": 1}})
    rows = np.ones((7, 2), np.float32)
    report = evaluate_embeddings(rows[:1], rows, data, trained_languages=["en"], num_resamples=0)
    config = TrainConfig.preset("demo")
    results = {name: {"passage": report.to_dict()} for name in ("before", config.stages[-1].value)}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert gains_table(tmp_path / "results.json", Level.PASSAGE).title.endswith("first passage of 7)")


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


def test_evaluate_lareqa_shows_mean_average_precision(run, tmp_path):
    for language in LANGUAGES:
        sentences = ["Oxygen burns.", "Ice floats."]
        paragraph = {
            "context": " ".join(sentences),
            "sentences": sentences,
            "sentence_breaks": [[0, 13], [14, 25]],
            "qas": [{"id": "q", "question": "What floats?", "answers": [{"answer_start": 14, "text": "Ice"}]}],
        }
        content = {"data": [{"title": "Ice", "paragraphs": [paragraph]}]}
        (tmp_path / f"{language}.json").write_text(json.dumps(content))
    result = run("evaluate", "muse", "--data", "lareqa", "--path", tmp_path, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads((tmp_path / "r.json").read_text())  # of passages only
    assert "| language | queries | mAP | P@1 |" in result.stdout
    assert (report["level"], report["num_candidates"]) == ("passage", 22)
    # The texts are the same in every language: the 11 sentences about ice are equal, and nearer than the others.
    assert report["averages"]["mAP"]["all"]["value"] == 1
    plain = run("evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--languages", "th", "--full-ranking")
    assert "| language | queries | mAP | P@1 |" in plain.stdout


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


def test_another_model_may_be_the_teacher(run, tmp_path, monkeypatch):
    def train(model, data, *, teacher, **_):
        (tmp_path / "seen").write_text(f"{model} learns {data.name} from {teacher}")

    monkeypatch.setattr("relkt.training.run.train", train)
    monkeypatch.setattr("relkt.encoders.load_encoder", lambda name, device: f"{name} on {device}")
    command = ["train", "--data", "relkt-mini", "--preset", "demo", "--output", tmp_path, "--device", "cpu"]
    assert run(*command, "--teacher", "me/strong").exit_code == 0
    assert (tmp_path / "seen").read_text() == "muse on cpu learns relkt-mini from me/strong on cpu"
    assert run(*command).exit_code == 0
    assert (tmp_path / "seen").read_text() == "muse on cpu learns relkt-mini from None"


def test_the_best_preset_is_that_of_the_model(run, tmp_path, monkeypatch):
    def preset(name):
        raise ValueError(f"asked for {name}")

    monkeypatch.setattr("relkt.training.config.TrainConfig.preset", preset)
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    for model, name in {"muse": "best-muse", tmp_path: "best-transformer"}.items():
        result = run("train", "--data", "relkt-mini", "--preset", "best", "--output", "run", "--model", model)
        assert f"asked for {name}" in result.stderr


def test_a_run_to_go_on_with_is_there(run, tmp_path):
    """A misspelt folder must not begin a run with every default."""
    result = run("train", "--data", "relkt-mini", "--output", tmp_path / "rn", "--resume")
    assert result.exit_code == 2
    assert "--output: expected the folder of a run to go on with" in result.stderr
    assert not (tmp_path / "rn").exists()


def test_train_then_resume_then_evaluate(run, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    command = ["train", "--data", "relkt-mini", "--config", tmp_path / "tiny.toml", "--output", tmp_path / "run"]
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
    # The languages trained are known from the run's configuration.
    assert "trained" in evaluated.stdout
