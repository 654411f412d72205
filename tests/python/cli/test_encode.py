"""``relkt encode``: the rows that it writes, and the input that it refuses."""

import json

import numpy as np
import pytest

import relkt
from relkt.cli.encode import read_texts
from relkt.data import load_data

FILES = {
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "good.txt", "--output", "x.npy", "--device", "hpu"], "--device: expected cpu, or a GPU that"),
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
        (["encode", "good.txt", "--output", "taken.npy"], "--output: taken.npy exists; use --overwrite to replace it"),
    ],
)
def test_bad_input_is_one_line(refused, arguments, message):
    refused(arguments, message, FILES)


@pytest.mark.slow
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


@pytest.mark.usefixtures("ones")
def test_encode_touches_no_other_file(run, tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    (tmp_path / "x.npy.partial").write_text("mine")
    result = run("encode", tmp_path / "lines.txt", "--output", tmp_path / "x.npy")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"lines.txt", "x.npy", "x.npy.partial"}
    assert (tmp_path / "x.npy.partial").read_text() == "mine"
    # The file has the permissions of any new file.
    assert (tmp_path / "x.npy").stat().st_mode == (tmp_path / "lines.txt").stat().st_mode


@pytest.mark.usefixtures("ones")
def test_chunks_are_written_in_order_or_not_at_all(run, tmp_path, monkeypatch):
    def encode(_, texts, **__):
        if "bad" in texts:
            raise ValueError("cannot encode this text")
        return np.array([[len(text), 1] for text in texts], np.float32)

    monkeypatch.setattr("relkt.encoders.encode_passages", encode)
    monkeypatch.setattr("relkt.cli.encode.CHUNK", 2)
    for name, lines in {"good": ["a", "bb", "ccc", "dddd", "eeeee"], "fails": ["a", "bb", "ccc", "bad"]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
        result = run("encode", tmp_path / f"{name}.txt", "--output", tmp_path / f"{name}.npy")
        assert result.exit_code == (0 if name == "good" else 2)
    assert np.load(tmp_path / "good.npy").tolist() == [[1, 1], [2, 1], [3, 1], [4, 1], [5, 1]]
    assert {path.name for path in tmp_path.iterdir()} == {"good.txt", "good.npy", "fails.txt"}


@pytest.mark.usefixtures("ones")
def test_paths_are_printed_without_markup_or_line_breaks(run, tmp_path):
    folder = tmp_path / "[bold]" / ("long" * 60)
    folder.mkdir(parents=True)
    (tmp_path / "lines.txt").write_text("one\n")
    result = run("encode", tmp_path / "lines.txt", "--output", folder / "x.npy")
    assert result.stderr.endswith(f"wrote {folder / 'x.npy'}: 1 rows of 2 float32 values\n")
