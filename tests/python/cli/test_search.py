"""``relkt search``: its answers in every format, and the input that it refuses."""

import json
import subprocess
import sys

import pytest

import relkt

THAI = "ทำไมทะเลถึงมีน้ำขึ้นน้ำลง"

pytestmark = pytest.mark.usefixtures("shared_muse")


def test_the_table_ranks_passages(run, index):
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


def test_json_has_every_field(run, index):
    result = run("search", index, THAI, "Wie backt man Brot?", "--json")
    first, second = [json.loads(line) for line in result.stdout.splitlines()]
    assert (first["id"], first["question"], second["id"]) == ("1", THAI, "2")
    assert [p["rank"] for p in first["passages"]] == [1, 2, 3]
    assert first["passages"][0]["id"] == "tides"
    best = second["passages"][0]
    assert best["text"] == "Brot wird aus Mehl gebacken."
    assert best["fields"] == {"year": 2021, "tags": ["x"]}
    expected = relkt.Retriever.open(index, device="cpu").search("Wie backt man Brot?")
    # The command encodes both questions together; the retriever encodes one question.
    assert [p["score"] for p in second["passages"]] == pytest.approx([result.score for result in expected], abs=1e-6)


def test_where_filters_passages(run, index):
    result = run(
        "search", index, THAI, "--json", "--where", "year=2021", "--where", "language=de", "--where", "language=en"
    )
    assert {p["id"] for p in json.loads(result.stdout)["passages"]} == {"salt", "brot"}
    result = run("search", index, THAI, "--where", "year=1900")
    assert result.exit_code == 0
    assert "no passage matches --where" in result.stdout


def test_questions_come_from_a_file_or_standard_input(run, index, tmp_path):
    questions = json.dumps({"_id": "q 1", "text": THAI}) + "\n\n" + "Wie backt man Brot?\n"
    (tmp_path / "questions.jsonl").write_text(questions, encoding="utf-8")
    from_file = run("search", index, "--file", "questions.jsonl", "--json", "-k", 1)
    assert [json.loads(line)["id"] for line in from_file.stdout.splitlines()] == ["q 1", "3"]
    from_input = run("search", index, "--json", "-k", 1, input=questions.encode())
    assert from_input.stdout == from_file.stdout
    assert run("search", index, "--file", "-", "--json", "-k", 1, input=questions.encode()).stdout == from_file.stdout


def test_run_file_is_replaced_on_request_only(run, index, tmp_path):
    result = run("search", index, THAI, "--run", "run.trec")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert (lines[0][0], lines[0][2], lines[0][3]) == ("1", "tides", "1")
    assert len(lines) == 3
    again = run("search", index, THAI, "--run", "run.trec")
    assert again.exit_code == 2
    assert "--run: run.trec exists; use --overwrite" in again.stderr
    assert run("search", index, THAI, "--run", "run.trec", "--overwrite", "-k", 1).exit_code == 0
    assert len((tmp_path / "run.trec").read_text().splitlines()) == 1


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "none.relkt", "q"], "none.relkt"),
        (["search", "w.relkt", " "], "QUESTIONS: expected texts, got an empty text as number 1"),
        (["search", "w.relkt", "q", "--file", "f"], "QUESTIONS, --file: expected one of them, got both"),
        (["search", "w.relkt", "--file", "none.txt"], "none.txt: file not found"),
        (["search", "w.relkt", "--file", "empty.txt"], "empty.txt: expected at least one question, got none"),
        (["search", "w.relkt", "--file", "twice.jsonl"], "twice.jsonl: expected unique ids, got 'a' more than once"),
        (["search", "w.relkt", "q", "--where", "year"], "--where: expected COLUMN=VALUE, got 'year'"),
        (["search", "w.relkt", "q", "--where", "year=x"], "expected a value of type int64 for 'year', got 'x'"),
        (["search", "w.relkt", "q", "--where", "month=1"], "expected a column among id, text"),
        (["search", "passages.jsonl", "q"], "passages.jsonl"),
        (["search", "w.relkt", "q", "--device", "nope"], "--device: expected cpu"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    twice = '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n'
    refused(arguments, message, {"empty.txt": "", "twice.jsonl": twice})


def test_common_mistakes_are_explained(run, index, tmp_path):
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
    assert f"note: {questions} is searched for as a question" in run("search", index, questions).stderr
    assert "is searched for as a question" not in run("search", index, "why " * 2000).stderr
    wrong = run("index", passages, "--output", tmp_path / "p.relkt", "--model", tmp_path / "none")
    assert f"error: --model: expected 'muse', a model's folder or its name on the Hub, got '{tmp_path}" in wrong.stderr


@pytest.mark.slow
def test_a_closed_pipe_causes_no_traceback(index):
    command = f"{sys.executable} -m relkt search {index} {'q ' * 200} --json | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["id"] == "1"
