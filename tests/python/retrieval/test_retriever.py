"""Opening and searching an index with texts."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import relkt
from relkt import IndexFileError, Retriever
from relkt.retrieval import IndexedPassage, Storage
from relkt.retrieval import retriever as retriever_module


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_build_open_and_search(built, encoder, tmp_path):
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


def test_several_questions_and_k_above_the_number_of_passages(built):
    results = built.search(["salt", "flour bread"], k=99)
    assert [result[0].passage.id for result in results] == ["salt", "bread"]
    assert [len(result) for result in results] == [4, 4]
    assert results[0] == built.search("salt", k=99)
    assert built.search([]) == []


def test_filters(built):
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


@pytest.mark.slow
def test_the_named_encoder_is_loaded_when_needed(passages, tmp_path):
    folder = tmp_path / "muse"
    relkt.load_encoder("muse", device="cpu").save(str(folder))
    Retriever.build(passages, tmp_path / "w.relkt", encoder=str(folder), device="cpu")
    retriever = Retriever.open(tmp_path / "w.relkt", device="cpu")
    assert retriever.encoder_name == str(folder.resolve())
    assert retriever._encoder is None
    assert retriever.search("¿Qué causa las mareas?")[0].passage.id == "tides"


def test_an_encoder_without_a_name_must_be_given(passages, encoder, tmp_path):
    Retriever.build(passages, tmp_path / "w.relkt", encoder=encoder)
    with pytest.raises(ValueError, match="does not say which encoder"):
        Retriever.open(tmp_path / "w.relkt").search("a")


@pytest.mark.usefixtures("built")
def test_passages_of_another_index_are_refused(passages, encoder, tmp_path):
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


def test_passages_outside_the_folder_of_the_index_are_refused(built, tmp_path):
    for name in ("../w.passages.arrow", str(tmp_path / "w.passages.arrow"), "a\\b", ".."):
        index = relkt.Index.open(tmp_path / "w.relkt")
        index.save(tmp_path / "other.relkt", texts=name)
        with pytest.raises(IndexFileError, match="expected the name of a file in the same folder"):
            Retriever.open(tmp_path / "other.relkt")
    assert len(built) == 4


def test_a_link_to_an_index_leads_to_both_files(built, encoder, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "l.relkt").symlink_to(built.path)
    assert len(Retriever.open(tmp_path / "links" / "l.relkt")) == 4
    Retriever.build(["a"], tmp_path / "links" / "l.relkt", encoder=encoder, overwrite=True)
    assert len(Retriever.open(tmp_path / "w.relkt")) == 1


def test_an_index_changed_after_opening_is_refused(built):
    rows = built.index.embeddings([0])
    built.index.remove(["tides"])
    with pytest.raises(ValueError, match="index: expected 4 rows, one for each passage, got 3"):
        built.search("salt")
    built.index.add(rows, ids=["new"])
    with pytest.raises(ValueError, match=r"index: row \d is '.*', and was"):
        built.search("salt")


@pytest.mark.slow
def test_threads_can_search_at_once(passages, tmp_path, monkeypatch):
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
