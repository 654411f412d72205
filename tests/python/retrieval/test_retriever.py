"""Building, opening and asking an index with texts."""

import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import relkt
from relkt import IndexFileError, Retriever
from relkt.data import DataError
from relkt.retrieval import IndexedPassage, Storage, building, read_passages
from relkt.retrieval import retriever as retriever_module
from relkt.retrieval.building import IndexProgress


@pytest.fixture
def built(passages, encoder, tmp_path):
    return Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder, encoder_name="words")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_build_and_ask(built, encoder, tmp_path):
    assert files(tmp_path) == ["w.passages.arrow", "w.relkt"]
    (best, second) = built.search("what causes the tides?", k=2)
    assert (best.passage.id, best.rank, best.row) == ("tides", 1, 0)
    assert best.passage == IndexedPassage("tides", "The moon causes tides.", "Sea", "sea", "en", {"year": 2020})
    assert second.rank == 2
    assert second.score <= best.score
    again = Retriever.open(tmp_path / "w.relkt", encoder=encoder)
    assert again.search("what causes the tides?", k=2) == [best, second]
    assert again.encoder_name == "words"
    assert again.path == tmp_path / "w.relkt"
    assert len(again) == 4


def test_several_questions_and_more_than_there_is(built):
    results = built.search(["salt", "flour bread"], k=99)
    assert [result[0].passage.id for result in results] == ["salt", "bread"]
    assert [len(result) for result in results] == [4, 4]
    assert results[0] == built.search("salt", k=99)
    assert built.search([]) == []


def test_where(built):
    assert [r.passage.id for r in built.search("eis", where={"language": "de"})] == ["eis"]
    assert {r.passage.id for r in built.search("eis", where={"year": [2020, 2021]})} == {"tides", "salt", "eis"}
    assert built.search(["eis", "salt"], where={"language": "fr"}) == [[], []]


def test_scores_are_the_exact_cosines(built):
    questions = ["moon sea", "ice"]
    embedded = built.encode(questions)
    expected = embedded.astype(np.float64) @ built.index.embeddings().astype(np.float64).T
    for row, result in enumerate(built.search(questions, k=4)):
        assert [r.score for r in result] == pytest.approx(sorted(expected[row], reverse=True), abs=1e-6)
        assert [r.row for r in result] == np.argsort(-expected[row], kind="stable").tolist()


def test_bad_questions_are_refused(built):
    with pytest.raises(ValueError, match="questions: expected a text in row 1, got ' '"):
        built.search(["a", " "])
    with pytest.raises(ValueError, match="k: expected an integer of at least 1, got 0"):
        built.search("a", k=0)


def test_in_memory(encoder):
    vectors = encoder.encode_document(["a b", "c d"])
    retriever = Retriever(relkt.Index(vectors), ["a b", "c d"], encoder)
    assert retriever.search("d")[0].passage.text == "c d"
    assert retriever.path is None
    with pytest.raises(ValueError, match="passages: expected 2, one for each row of the index, got 1"):
        Retriever(relkt.Index(vectors), ["a b"], encoder)
    with pytest.raises(ValueError, match="encoder: expected dimension 3, as in the index, got 32"):
        Retriever(relkt.Index(np.eye(3, dtype=np.float32)), list("abc"), encoder)


def test_float16(passages, encoder, tmp_path):
    retriever = Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder, storage=Storage.FLOAT16)
    assert retriever.index.dtype == np.float16
    assert retriever.search("salt")[0].passage.id == "salt"


def test_prompts(passages, encoder, words, tmp_path):
    path = tmp_path / "w.relkt"
    Retriever.build(passages, path, encoder=encoder, query_prompt="ask ", passage_prompt="say ")
    assert "say The sea is salt." in words.seen
    Retriever.open(path, encoder=encoder).search("salt")
    assert words.seen[-1] == "ask salt"


@pytest.mark.usefixtures("built")
def test_another_encoder_is_refused(encoder_of, tmp_path):
    with pytest.raises(ValueError, match="expected words as it was when the passages were embedded"):
        Retriever.open(tmp_path / "w.relkt", encoder=encoder_of("other"))


def test_encoder_is_loaded_by_its_name_when_it_is_needed(passages, tmp_path):
    folder = tmp_path / "muse"
    relkt.load_encoder("muse", device="cpu").save(str(folder))
    Retriever.build(passages, tmp_path / "w.relkt", encoder=str(folder), device="cpu")
    retriever = Retriever.open(tmp_path / "w.relkt", device="cpu")
    assert retriever.encoder_name == str(folder.resolve())
    assert retriever._encoder is None
    assert retriever.search("¿Qué causa las mareas?")[0].passage.id == "tides"


def test_without_a_name_the_encoder_has_to_be_given(passages, encoder, tmp_path):
    Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder)
    with pytest.raises(ValueError, match="does not say which encoder"):
        Retriever.open(tmp_path / "w.relkt").search("a")


@pytest.mark.usefixtures("built")
def test_files_that_do_not_belong_together(passages, encoder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Retriever.build(passages[::-1], other / "w.relkt", encoder=encoder)
    (other / "w.passages.arrow").replace(tmp_path / "w.passages.arrow")
    with pytest.raises(IndexFileError, match="belong to another index"):
        Retriever.open(tmp_path / "w.relkt")
    (tmp_path / "w.passages.arrow").unlink()
    with pytest.raises(FileNotFoundError):
        Retriever.open(tmp_path / "w.relkt")
    relkt.Index(np.eye(3, dtype=np.float32)).save(tmp_path / "bare.relkt")
    with pytest.raises(IndexFileError, match="expected an index with passages"):
        Retriever.open(tmp_path / "bare.relkt")


@pytest.mark.usefixtures("built")
def test_nothing_is_replaced_unasked(passages, encoder, tmp_path):
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


def test_names_that_begin_alike_have_passages_of_their_own(passages, encoder, tmp_path):
    for name, some in (("w.v1", passages), ("w.v2", passages[:1]), ("w.relkt", passages[:2])):
        Retriever.build(some, tmp_path / name, encoder=encoder)
    assert [len(Retriever.open(tmp_path / name)) for name in ("w.v1", "w.v2", "w.relkt")] == [4, 1, 2]


def test_what_is_no_index_is_not_replaced(json_lines, encoder, tmp_path):
    before = json_lines.read_bytes()
    with pytest.raises(FileExistsError, match="is not an index and is not overwritten"):
        Retriever.build(read_passages(json_lines), json_lines, encoder=encoder, overwrite=True)
    assert json_lines.read_bytes() == before
    assert files(tmp_path) == ["passages.jsonl"]


@pytest.mark.usefixtures("built")
def test_damage_is_found(encoder, tmp_path):
    texts = tmp_path / "w.passages.arrow"
    whole = texts.read_bytes()
    Retriever.open(tmp_path / "w.relkt", verify=True)
    texts.write_bytes(whole.replace(b"The sea is salt.", b"Xhe sea is salt."))
    with pytest.raises(IndexFileError, match="the passages have changed since the index was built"):
        Retriever.open(tmp_path / "w.relkt", verify=True)
    offsets = np.array([0, 22, 38, 62, 80], dtype=np.int32).tobytes()
    assert whole.count(offsets) == 1
    texts.write_bytes(whole.replace(offsets, np.array([0, 22, 2**30, 62, 80], dtype=np.int32).tobytes()))
    retriever = Retriever.open(tmp_path / "w.relkt", encoder=encoder)
    with pytest.raises(IndexFileError, match="damaged around row 0"):
        retriever.search("salt")


def test_texts_lie_beside_the_index_and_nowhere_else(built, tmp_path):
    for name in ("../w.passages.arrow", str(tmp_path / "w.passages.arrow"), "a\\b", ".."):
        index = relkt.Index.open(tmp_path / "w.relkt")
        index.save(tmp_path / "other.relkt", texts=name)
        with pytest.raises(IndexFileError, match="expected the name of a file in the same folder"):
            Retriever.open(tmp_path / "other.relkt")
    assert len(built) == 4


def test_a_link_leads_to_both_files(built, encoder, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "l.relkt").symlink_to(built.path)
    assert len(Retriever.open(tmp_path / "links" / "l.relkt")) == 4
    Retriever.build(["a"], tmp_path / "links" / "l.relkt", encoder=encoder, overwrite=True)
    assert len(Retriever.open(tmp_path / "w.relkt")) == 1


def test_an_index_that_is_changed_is_not_given_wrong_texts(built):
    rows = built.index.embeddings([0])
    built.index.remove(["tides"])
    with pytest.raises(ValueError, match="index: expected 4 rows, one for each passage, got 3"):
        built.search("salt")
    built.index.add(rows, ids=["new"])
    with pytest.raises(ValueError, match=r"index: row \d is '.*', and was"):
        built.search("salt")


def test_bad_input_leaves_nothing(encoder, tmp_path):
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


def test_interrupted_build_goes_on(encoder, words, tmp_path, monkeypatch):
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
    ours, theirs = relkt.Index.open(cut), relkt.Index.open(whole)
    assert ours.embeddings().tobytes() == theirs.embeddings().tobytes()
    assert (tmp_path / "cut.passages.arrow").read_bytes() == (tmp_path / "whole.passages.arrow").read_bytes()


def test_interrupted_before_anything_is_encoded_leaves_nothing(encoder, words, tmp_path):
    words.fail_at = "b"
    with pytest.raises(KeyboardInterrupt):
        Retriever.build(["a", "b"], tmp_path / "w.relkt", encoder=encoder)
    assert files(tmp_path) == []


@pytest.mark.parametrize("after", ["encoding", "texts", "index", "half"])
def test_killed_build_goes_on(passages, tmp_path, after):
    """Killed at a place where no ``finally`` runs; then the same call ends with both files and nothing else."""
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
    if after == "half":  # nothing but leftovers: the index is complete, and stays unless asked
        assert Retriever.open(path).search("¿Qué causa las mareas?")[0].passage.id == "tides"
        path.unlink()
    done = subprocess.run([*command, "nothing", json.dumps(passages)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [name for name in files(tmp_path) if name != "w.passages.arrow"][-1:] == ["w.relkt"]
    assert not (tmp_path / "w.relkt.building").exists()
    assert Retriever.open(path).search("¿Qué causa las mareas?")[0].passage.id == "tides"


def test_a_folder_that_is_no_build_is_left_alone(encoder, tmp_path):
    folder = tmp_path / "w.relkt.building"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"contains files that relkt did not write: mine\.txt"):
        Retriever.build(["a"], tmp_path / "w.relkt", encoder=encoder)
    assert (folder / "mine.txt").read_text() == "x"


def test_changed_passages_are_not_mixed_with_earlier_ones(json_lines, encoder, words, tmp_path, monkeypatch):
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


def test_threads_may_ask_at_once(passages, tmp_path, monkeypatch):
    Retriever.build(passages, tmp_path / "w.relkt", encoder="muse", device="cpu")
    retriever = Retriever.open(tmp_path / "w.relkt", device="cpu")
    expected = Retriever.open(tmp_path / "w.relkt", device="cpu").search("salt")
    loads, inside = [], []
    load, encode = retriever_module.load_encoder, retriever_module.encode_queries

    def encode_alone(*arguments, **options):
        inside.append(1)
        assert len(inside) == 1
        try:
            return encode(*arguments, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(retriever_module, "load_encoder", lambda *a, **k: loads.append(a) or load(*a, **k))
    monkeypatch.setattr(retriever_module, "encode_queries", encode_alone)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(retriever.search, ["salt"] * 16)) == [expected] * 16
    assert len(loads) == 1
