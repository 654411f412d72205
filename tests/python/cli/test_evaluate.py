"""``relkt evaluate``: its reports and files, and the options that it refuses."""

import json
import shutil

import numpy as np
import pytest

from relkt.cli.evaluate import trained_in
from relkt.data import load_data
from relkt.data.lareqa import LANGUAGES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "./no-model", "--data", "relkt-mini"], "'./no-model'"),
        (["evaluate", "muse", "--data", "relkt-mini", "--languages", "fr"], "languages: data set 'relkt-mini' has no"),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--run", "r.trec"],
            "--run, --qrels: expected exactly one",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--json", "none/r.json"],
            "--json: the folder of none/r.json does not exist",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--qrels", "taken.npy"],
            "--qrels: taken.npy exists; use --overwrite to replace it",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--run", "x", "--qrels", "./x"],
            "--qrels: expected a file other than --run's, got x for both",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--trained-languages", "en,fr"],
            "--trained-languages: expected languages among en, ar",
        ),
        (
            ["evaluate", "muse", "--data", "relkt-mini", "--trained-languages", ""],
            "--trained-languages: expected at least one language code, got an empty value",
        ),
        (["evaluate", "muse", "--data", "relkt-mini", "--device", "gpu"], "--device: expected cpu, or a GPU that"),
        (["evaluate", "muse", "--data", "relkt-mini", "--device", "cuda:99"], "--device: expected cpu, or a GPU that"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message, {"taken.npy": "mine"})


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


@pytest.mark.usefixtures("ones")
@pytest.mark.parametrize(("option", "writer"), [("--run", "run_lines"), ("--qrels", "_trec_id")])
def test_a_failed_write_keeps_the_old_file(run, tmp_path, monkeypatch, option, writer):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(f"relkt.evaluation.trec.{writer}", fail)
    (tmp_path / "old").write_text("old")
    command = ["evaluate", "muse", "--data", "relkt-mini", "--languages", "en", "--level", "passage"]
    result = run(*command, option, tmp_path / "old", "--overwrite")
    assert result.exit_code == 2
    assert "the disk is full" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_trained_languages_come_from_the_run_of_the_model(tiny, tmp_path, monkeypatch):
    shutil.copy(tiny, tmp_path / "config.toml")
    (tmp_path / "model").mkdir()
    # Without results.json, config.toml may belong to something else.
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


@pytest.mark.slow
def test_output_files_agree_with_the_report(run, tmp_path):
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


@pytest.mark.slow
def test_lareqa_is_measured_by_mean_average_precision(run, tmp_path):
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
    # All languages have the same texts: the 11 sentences about ice are equal, and nearer than the other sentences.
    assert report["averages"]["mAP"]["all"]["value"] == 1
    plain = run("evaluate", "muse", "--data", "relkt-mini", "--level", "passage", "--languages", "th", "--full-ranking")
    assert "| language | queries | mAP | P@1 |" in plain.stdout
