"""``relkt index``, ``search``, ``info`` and ``bench``: what they print, write and refuse."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import relkt
from relkt.cli import app

PASSAGES = [
    {"id": "tides", "text": "The gravity of the moon causes the tides of the sea.", "language": "en", "year": 2020},
    {"id": "salt", "text": "Rivers carry salt into the sea.", "language": "en", "year": 2021},
    {"id": "brot", "text": "Brot wird aus Mehl gebacken.", "language": "de", "year": 2021, "tags": ["x"]},
]
THAI = "ทำไมทะเลถึงมีน้ำขึ้นน้ำลง"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("search")


@pytest.fixture
def run(monkeypatch, folder):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(folder)
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture(scope="module")
def index(folder):
    lines = "".join(json.dumps(passage) + "\n" for passage in PASSAGES)
    (folder / "passages.jsonl").write_text(lines, encoding="utf-8")
    result = CliRunner().invoke(
        app, ["index", str(folder / "passages.jsonl"), "--output", str(folder / "w.relkt"), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.stderr
    assert "3 passages; ask it with: relkt search" in result.stderr
    return folder / "w.relkt"


def test_index_writes_two_files(index):
    assert len(relkt.Index.open(index)) == 3
    assert index.with_name("w.passages.arrow").is_file()
    assert not index.with_name("w.relkt.building").exists()


def test_search_shows_a_table(run, index):
    result = run("search", index, THAI, "-k", 2)
    assert result.exit_code == 0, result.stderr
    assert THAI in result.stdout
    lines = result.stdout.splitlines()
    assert lines.index(next(line for line in lines if "tides" in line)) < lines.index(
        next(line for line in lines if "salt" in line)
    )
    assert "brot" not in result.stdout
    assert "1 question, 3 passages" in result.stderr
    assert "\x1b" not in result.stdout


def test_search_json_holds_everything(run, index):
    result = run("search", index, THAI, "Wie backt man Brot?", "--json")
    first, second = [json.loads(line) for line in result.stdout.splitlines()]
    assert (first["id"], first["question"], second["id"]) == ("1", THAI, "2")
    assert [p["rank"] for p in first["passages"]] == [1, 2, 3]
    assert first["passages"][0]["id"] == "tides"
    best = second["passages"][0]
    assert best["text"] == "Brot wird aus Mehl gebacken."
    assert best["fields"] == {"year": 2021, "tags": ["x"]}
    expected = relkt.Retriever.open(index, device="cpu").search("Wie backt man Brot?")
    # Questions are encoded together here, and one by one there.
    assert [p["score"] for p in second["passages"]] == pytest.approx([result.score for result in expected], abs=1e-6)


def test_search_where(run, index):
    result = run(
        "search", index, THAI, "--json", "--where", "year=2021", "--where", "language=de", "--where", "language=en"
    )
    assert {p["id"] for p in json.loads(result.stdout)["passages"]} == {"salt", "brot"}
    result = run("search", index, THAI, "--where", "year=1900")
    assert result.exit_code == 0
    assert "no passage fits --where" in result.stdout


def test_search_reads_files_and_standard_input(run, index, folder):
    questions = json.dumps({"_id": "q 1", "text": THAI}) + "\n\n" + "Wie backt man Brot?\n"
    (folder / "questions.jsonl").write_text(questions, encoding="utf-8")
    from_file = run("search", index, "--file", "questions.jsonl", "--json", "-k", 1)
    assert [json.loads(line)["id"] for line in from_file.stdout.splitlines()] == ["q 1", "3"]
    from_input = run("search", index, "--json", "-k", 1, input=questions.encode())
    assert from_input.stdout == from_file.stdout
    assert run("search", index, "--file", "-", "--json", "-k", 1, input=questions.encode()).stdout == from_file.stdout


def test_search_writes_a_run(run, index, folder):
    result = run("search", index, THAI, "--run", "run.trec")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in (folder / "run.trec").read_text().splitlines()]
    assert (lines[0][0], lines[0][2], lines[0][3]) == ("1", "tides", "1")
    assert len(lines) == 3
    again = run("search", index, THAI, "--run", "run.trec")
    assert again.exit_code == 2
    assert "--run: run.trec exists; give --overwrite" in again.stderr
    assert run("search", index, THAI, "--run", "run.trec", "--overwrite", "-k", 1).exit_code == 0
    assert len((folder / "run.trec").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "none.relkt", "q"], "none.relkt"),
        (["search", "w.relkt", " "], "QUESTIONS: expected texts, got an empty one in place 1"),
        (["search", "w.relkt", "q", "--file", "f"], "QUESTIONS, --file: expected one of them, got both"),
        (["search", "w.relkt", "--file", "none.txt"], "none.txt: file not found"),
        (["search", "w.relkt", "--file", "empty.txt"], "empty.txt: expected at least one question, got none"),
        (["search", "w.relkt", "--file", "twice.jsonl"], "twice.jsonl: expected each id once, got 'a' more than once"),
        (["search", "w.relkt", "q", "--where", "year"], "--where: expected COLUMN=VALUE, got 'year'"),
        (["search", "w.relkt", "q", "--where", "year=x"], "expected a value of type int64 for 'year', got 'x'"),
        (["search", "w.relkt", "q", "--where", "month=1"], "expected a column among id, text"),
        (["search", "passages.jsonl", "q"], "passages.jsonl"),
        (["search", "w.relkt", "q", "--device", "nope"], "--device: expected cpu"),
        (["index", "none.jsonl", "--output", "x.relkt"], "none.jsonl: file not found"),
        (
            ["index", "passages.jsonl", "--output", "w.relkt"],
            "exists; choose another name, or pass --overwrite",
        ),
        (["index", "passages.jsonl", "--output", "no/x.relkt"], "the folder of no/x.relkt does not exist"),
        (["index", "passages.jsonl", "--output", "x.relkt", "--text-column", "body"], "expected a text in 'body'"),
        (["index", "empty.txt", "--output", "x.relkt"], "expected at least one passage, got none"),
        (["info", "none"], "PATH: no such file or folder: none"),
        (["info", "."], "neither modules.json, config.json nor metrics.jsonl"),
        (["info", "passages.jsonl"], "passages.jsonl"),
        (["bench", "--queries", "1,x"], "--queries: expected numbers with commas"),
        (["bench", "--queries", "4,4"], "--queries: expected different numbers"),
        (["bench", "--rows", "5", "--k", "6"], "k: expected a number from 1 to 5"),
    ],
)
def test_bad_input_is_one_line(run, index, folder, arguments, message):  # noqa: ARG001
    (folder / "empty.txt").write_text("")
    (folder / "twice.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n')
    before = sorted(folder.iterdir())
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "\n" not in result.stderr.strip()  # but for what a bar leaves when it goes
    assert result.stdout == ""
    assert sorted(folder.iterdir()) == before


def test_info_of_an_index(run, index):
    result = run("info", index, "--verify", "--json")
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["passages"], facts["dimensions"], facts["checksums"]) == ("index", 3, 512, "fit")
    assert facts["encoder"] == "muse"
    assert facts["columns"]["year"] == "int64"
    assert facts["languages"] == {"en": 2, "de": 1}
    shown = run("info", index).stdout
    assert "passages" in shown
    assert "muse" in shown
    assert json.loads(run("info", index.with_name("w.passages.arrow"), "--json").stdout)["kind"] == "passages"


def test_info_finds_damage(run, index, folder):
    damaged = folder / "damaged.relkt"
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    result = run("info", damaged, "--verify")
    assert result.exit_code == 2
    assert "damaged.relkt" in result.stderr
    damaged.unlink()


def test_info_of_a_bare_index_and_a_model(run, tmp_path):
    relkt.Index(np.eye(3, dtype=np.float32), ids=[5, 6, 7]).save(tmp_path / "bare.relkt")
    facts = json.loads(run("info", tmp_path / "bare.relkt", "--json").stdout)
    assert (facts["ids"], facts["texts"]) == ("integers", "none")
    relkt.load_encoder("muse", device="cpu").save(str(tmp_path / "muse"))
    facts = json.loads(run("info", tmp_path / "muse", "--json").stdout)
    assert (facts["kind"], facts["dimensions"], facts["modules"]) == ("model", 512, "MuseEncoder")


def test_info_of_a_run(run, tmp_path):
    lines = [{"stage": "warmup", "dev_p1": 0.5}, {"stage": "warmup", "dev_p1": 0.75}, {"stage": "warmup", "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = json.loads(run("info", tmp_path, "--json").stdout)
    assert (facts["kind"], facts["complete"], facts["stages"]) == (
        "training run",
        False,
        {"warmup": "dev P@1 up to 0.750"},
    )


def test_what_is_often_given_by_mistake(run, index, tmp_path):
    passages = tmp_path / "p.jsonl"
    passages.write_text('{"text": "Ice floats."}\n')
    made = run("search", passages, "Why?")
    assert made.exit_code == 2
    assert f"INDEX: expected an index file, got {passages}" in made.stderr
    assert f"relkt index {passages} --output {tmp_path / 'p.relkt'}" in made.stderr
    missing = run("search", tmp_path / "no.relkt", "Why?")
    assert missing.stderr.strip() == f"error: {tmp_path / 'no.relkt'}: file not found"
    questions = tmp_path / "q.txt"
    questions.write_text("Why does ice float?\n")
    assert f"note: {questions} is asked as a question" in run("search", index, questions).stderr
    assert "is asked as a question" not in run("search", index, "why " * 2000).stderr
    wrong = run("index", passages, "--output", tmp_path / "p.relkt", "--model", tmp_path / "none")
    assert f"error: --model: expected 'muse', a model's folder or its name on the Hub, got '{tmp_path}" in wrong.stderr


def test_bench(run, index, monkeypatch):
    monkeypatch.setattr("relkt.speed.SECONDS", 0)
    result = run("bench", "--rows", 300, "--dim", 16, "--queries", "1,3", "-k", 2, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["rows"], report["dim"], report["k"], report["threads"]) == (300, 16, 2, 1)
    assert {(t["system"], t["queries"]) for t in report["timings"]} >= {("relkt", 1), ("NumPy", 1), ("NumPy", 3)}
    assert all(t["seconds"] > 0 and t["agreement"] == 1 for t in report["timings"])
    shown = run("bench", index, "--queries", "1", "-k", 1)
    assert shown.exit_code == 0, shown.stderr
    assert "3 rows of 512, k = 1" in shown.stdout


def test_a_pipe_that_closes_is_no_error(index):
    command = f"{sys.executable} -m relkt search {index} {'q ' * 200} --json | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["id"] == "1"
