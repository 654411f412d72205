"""Building an index: atomic replacement, and resumption after interruptions and kills."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import relkt
from relkt import Index, Retriever
from relkt.data import DataError
from relkt.retrieval import building, read_passages
from relkt.retrieval.building import IndexProgress


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("built")
def test_an_existing_index_is_replaced_only_with_overwrite(passages, encoder, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="exists"):
        Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    Retriever.build(passages[:2], tmp_path / "w.relkt", encoder=encoder, overwrite=True)
    assert len(Retriever.open(tmp_path / "w.relkt")) == 2


def test_a_failed_replacement_leaves_the_old_index(passages, encoder, tmp_path, monkeypatch):
    path = tmp_path / "w.relkt"
    Retriever.build(passages, path, encoder=encoder)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(building.Index, "build", full)
        with pytest.raises(OSError, match="no space left"):
            Retriever.build(passages[:2], path, encoder=encoder, overwrite=True)
    assert {file: file.read_bytes() for file in before} == before
    assert Retriever.open(path, encoder=encoder).search("salt")[0].passage.id == "salt"
    Retriever.build(passages[:2], path, encoder=encoder, overwrite=True)
    assert files(tmp_path) == ["w.passages-2.arrow", "w.relkt"]
    assert len(Retriever.open(path)) == 2


@pytest.mark.parametrize("name", ["notes.txt", "other.passages.arrow"])
def test_a_file_that_a_replaced_index_names_is_not_deleted(name, passages, encoder, tmp_path):
    (tmp_path / name).write_text("kept")
    Index.build(tmp_path / "w.relkt", [np.eye(2, dtype=np.float32)], rows=2, texts=name)
    Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder, overwrite=True)
    assert files(tmp_path) == sorted([name, "w.passages.arrow", "w.relkt"])
    assert (tmp_path / name).read_text() == "kept"


def test_indexes_with_similar_names_have_separate_passages(passages, encoder, tmp_path):
    for name, some in (("w.v1", passages), ("w.v2", passages[:1]), ("w.relkt", passages[:2])):
        Retriever.build(some, tmp_path / name, encoder=encoder)
    assert [len(Retriever.open(tmp_path / name)) for name in ("w.v1", "w.v2", "w.relkt")] == [4, 1, 2]


def test_a_file_that_is_not_an_index_is_not_replaced(json_lines, encoder, tmp_path):
    before = json_lines.read_bytes()
    with pytest.raises(FileExistsError, match="is not an index and is not overwritten"):
        Retriever.build(read_passages(json_lines), json_lines, encoder=encoder, overwrite=True)
    assert json_lines.read_bytes() == before
    assert files(tmp_path) == ["passages.jsonl"]


def test_bad_input_leaves_no_files(encoder, tmp_path):
    with pytest.raises(DataError, match="expected a text"):
        Retriever.build(["a", " "], tmp_path / "w.relkt", encoder=encoder)
    with pytest.raises(FileNotFoundError, match="folder"):
        Retriever.build(["a"], tmp_path / "no" / "w.relkt", encoder=encoder)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        Retriever.build(["a"], tmp_path / "w.relkt", encoder=encoder, batch_size=0)
    assert files(tmp_path) == []


class Seen(IndexProgress):
    def __init__(self):
        self.started, self.count = [], 0

    def encoding(self, total, done):
        self.started.append((total, done))

    def encoded(self, passages):
        self.count += passages


def test_an_interrupted_build_is_resumed(encoder, words, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CHUNK", 4)
    texts = [f"text number {row}" for row in range(10)]
    whole, cut = tmp_path / "whole.relkt", tmp_path / "cut.relkt"
    Retriever.build(texts, whole, encoder=encoder)
    words.fail_at = texts[5]
    with pytest.raises(KeyboardInterrupt):
        Retriever.build(texts, cut, encoder=encoder)
    assert not cut.exists()
    words.fail_at, words.seen = None, []
    with pytest.raises(FileExistsError, match=r"an unfinished build with other inputs \(passages differs\)"):
        Retriever.build(texts[:3], cut, encoder=encoder)
    progress = Seen()
    Retriever.build(texts, cut, encoder=encoder, progress=progress)
    assert progress.started == [(10, 4)]
    assert progress.count == 6
    assert sorted(words.seen) == sorted(texts[4:])
    assert files(tmp_path) == ["cut.passages.arrow", "cut.relkt", "whole.passages.arrow", "whole.relkt"]
    resumed, expected = relkt.Index.open(cut), relkt.Index.open(whole)
    assert resumed.embeddings().tobytes() == expected.embeddings().tobytes()
    assert (tmp_path / "cut.passages.arrow").read_bytes() == (tmp_path / "whole.passages.arrow").read_bytes()


def test_an_interruption_before_the_first_embedding_leaves_no_files(encoder, words, tmp_path):
    words.fail_at = "b"
    with pytest.raises(KeyboardInterrupt):
        Retriever.build(["a", "b"], tmp_path / "w.relkt", encoder=encoder)
    assert files(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("after", ["encoding", "texts", "index", "half"])
def test_a_killed_build_is_resumed(passages, tmp_path, after):
    """Kill the process at a place where no ``finally`` runs; the same call then leaves the two files and no others."""
    script = textwrap.dedent("""
        import json, os, sys
        from pathlib import Path
        from relkt.retrieval import Retriever, build_state, building
        path, after = Path(sys.argv[1]), sys.argv[2]
        die = lambda *a, **k: os._exit(9)
        if after == "encoding":
            building._write = die
        elif after == "texts":
            building.Index.build = die
        elif after == "index":
            build_state._remove = die
        elif after == "half":
            remove = build_state._remove
            def half(folder):
                (folder / "state.json").unlink()
                die()
            build_state._remove = half
        Retriever.build(json.loads(sys.argv[3]), path, encoder="muse", device="cpu")
    """)
    path = tmp_path / "w.relkt"
    command = [sys.executable, "-c", script, str(path)]
    killed = subprocess.run([*command, after, json.dumps(passages)], capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    assert (tmp_path / "w.relkt.building").is_dir()
    if after == "half":  # the index is complete: without overwrite, the next build would refuse
        assert Retriever.open(path).search("¿Qué causa las mareas?")[0].passage.id == "tides"
        path.unlink()
    done = subprocess.run([*command, "nothing", json.dumps(passages)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in files(tmp_path) if name != "w.passages.arrow"][-1:] == ["w.relkt"]
    assert not (tmp_path / "w.relkt.building").exists()
    assert Retriever.open(path).search("¿Qué causa las mareas?")[0].passage.id == "tides"


def test_other_files_in_the_work_folder_are_refused(encoder, tmp_path):
    folder = tmp_path / "w.relkt.building"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"contains files that relkt did not write: mine\.txt"):
        Retriever.build(["a"], tmp_path / "w.relkt", encoder=encoder)
    assert (folder / "mine.txt").read_text() == "x"


def test_changed_passages_are_not_mixed_with_earlier_embeddings(json_lines, encoder, words, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "CHUNK", 1)
    words.fail_at = "Bread needs flour."
    with pytest.raises(KeyboardInterrupt):
        Retriever.build(read_passages(json_lines), tmp_path / "w.relkt", encoder=encoder)
    words.fail_at = None
    json_lines.write_text('{"text": "Something else."}\n')
    with pytest.raises(FileExistsError, match=r"an unfinished build with other inputs \(passages differs\)"):
        Retriever.build(read_passages(json_lines), tmp_path / "w.relkt", encoder=encoder)
    Retriever.build(read_passages(json_lines), tmp_path / "w.relkt", encoder=encoder, overwrite=True)
    assert [p.text for p in Retriever.open(tmp_path / "w.relkt").passages] == ["Something else."]
