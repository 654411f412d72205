"""Reading and writing the BEIR layout."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relkt.data import DataError, Passage, Query, RetrievalData, Split, load_data, save_beir

HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "Tides", "text": "The Moon.", "metadata": {"document": "sea", "language": "de"}}\n'
        '{"_id": "d2", "text": "The Sun.", "document": "sea"}\n'
        '{"_id": "d3", "text": "Bees dance."}\n'
    )
    (folder / "queries.jsonl").write_text(
        '{"_id": "q1-en", "text": "Why tides?", "parallel": "q1"}\n'
        '{"_id": "q1-de", "text": "Warum Gezeiten?", "metadata": {"parallel": "q1", "language": "de"}}\n'
        '{"_id": "q2", "text": "How do bees talk?", "metadata": {}}\n'
        '{"_id": "q3", "text": "What burns?"}\n'
    )
    (folder / "qrels" / "train.tsv").write_text(HEADER + "q1-en\td1\t1\nq1-en\td2\t0\nq1-de\td1\t2\n")
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q2\td3\t1\r\nq3\td2\t1")
    return folder


def test_reads_fields_defaults_and_splits(folder: Path) -> None:
    data = load_data("beir", path=folder)
    assert data.passages == (
        Passage("d1", "The Moon.", "sea", "de", "Tides"),
        Passage("d2", "The Sun.", "sea"),
        Passage("d3", "Bees dance.", "d3"),
    )
    assert data.queries[1] == Query("q1-de", "Warum Gezeiten?", "de", "q1", Split.TRAIN)
    assert data.queries[2] == Query("q2", "How do bees talk?", "en", "q2", Split.TEST)
    assert data.qrels["q1-en"] == {"d1": 1, "d2": 0}
    assert data.positives("q1-de") == ("d1",)


def test_a_single_qrels_file_is_split_by_question_by_default(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").unlink()
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q1-en\td1\t1\nq1-de\td1\t1\nq2\td3\t1\nq3\td2\t1\n")
    thirds = load_data("beir", path=folder, split_fractions=(0.34, 0.33, 0.33))
    assert {q.split for q in thirds.queries} == set(Split)
    official = load_data("beir", path=folder, split_by="official")
    assert {q.split for q in official.queries} == {Split.TEST}
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "all.tsv")
    assert load_data("beir", path=folder, split_fractions=(0.34, 0.33, 0.33)) == thirds
    with pytest.raises(ValueError, match="has no official split"):
        load_data("beir", path=folder, split_by="official")


def test_split_by_overrides_the_qrels_files(folder: Path) -> None:
    data = load_data("beir", path=folder, split_by="question", split_fractions=(0, 0, 1))
    assert {q.split for q in data.queries} == {Split.TEST}


@pytest.mark.parametrize("split_by", ["auto", "official"])
def test_official_splits_take_no_seed_and_no_fractions(folder: Path, split_by: str) -> None:
    with pytest.raises(ValueError, match="split_seed: has no effect, because data set 'beir' keeps its official parts"):
        load_data("beir", path=folder, split_by=split_by, split_seed=42)
    with pytest.raises(ValueError, match="split_fractions: has no effect, because data set 'beir' keeps"):
        load_data("beir", path=folder, split_by=split_by, split_fractions=(0.6, 0.2, 0.2))


def test_queries_without_a_positive_are_left_out_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q2\td3\t0\n")
    with caplog.at_level(logging.WARNING, logger="relkt"):
        data = load_data("beir", path=folder)
    assert [q.id for q in data.queries] == ["q1-en", "q1-de"]
    assert "2 of 4 queries have no passage with a score above 0" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}\n',
            r"line 2: passage id 'd1' appears",
        ),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n{oops}\n', r"line 2, column 2: expected a JSON object"),
        ("corpus.jsonl", '["d1"]\n', r"line 1: expected a JSON object, got \['d1'\]"),
        ("corpus.jsonl", '{"_id": "d1"}\n', r"line 1: expected the field 'text'"),
        ("corpus.jsonl", '{"_id": 5, "text": "x"}\n', r"line 1: expected a string in '_id', got 5"),
        ("corpus.jsonl", '{"_id": "d1", "text": " "}\n', r"line 1: expected a non-blank text in 'text', got ' '"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x", "metadata": 3}\n', r"expected an object in 'metadata', got 3"),
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "x", "document": "a", "metadata": {"document": "b"}}\n',
            r"line 1: 'document' is 'a', but 'b' in 'metadata'",
        ),
        ("corpus.jsonl", "\n", r"corpus\.jsonl: expected at least one passage"),
        ("queries.jsonl", '{"_id": "q", "text": "?"}\n{"_id": "q", "text": "!"}\n', r"line 2: query id 'q' appears"),
        (
            "queries.jsonl",
            '{"_id": "q", "text": "?", "language": null}\n',
            r"expected a string in 'language', got None",
        ),
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "a \\ud800"}\n',
            r"line 1: .*Unicode text in 'text', got .* '\\ud800' at",
        ),
        ("qrels/test.tsv", "", r"test\.tsv, line 1: expected the header query-id corpus-id score, .* got \[''\]"),
        ("qrels/test.tsv", "q2\td3\t1\n", r"test\.tsv, line 1: expected the header"),
        ("qrels/test.tsv", HEADER + "q2\td3\n", r"line 2: expected 3 tab-separated fields, got 2"),
        ("qrels/test.tsv", HEADER + "q2\td3\tyes\n", r"line 2: expected an integer score, got 'yes'"),
        ("qrels/test.tsv", HEADER + "q2\td3\t0.5\n", r"line 2: expected an integer score, got '0.5'"),
        (
            "qrels/test.tsv",
            HEADER + "q2\td3\t1\nq9\td3\t1\n",
            r"line 3: expected a query id in queries\.jsonl, got 'q9'",
        ),
        ("qrels/test.tsv", HEADER + "q2\td9\t1\n", r"line 2: expected a passage id in corpus\.jsonl, got 'd9'"),
        ("qrels/test.tsv", HEADER + "q2\td3\t1\nq2\td3\t0\n", r"line 3: .* are judged twice"),
        ("qrels/train.tsv", HEADER + "q2\td3\t1\n", r"line 2: query 'q2' is also judged in test\.tsv"),
        ("qrels/val.tsv", HEADER, r"val\.tsv: expected only train\.tsv"),
    ],
)
def test_errors_name_file_line_and_value(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        load_data("beir", path=folder)


def test_missing_files(folder: Path) -> None:
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"queries\.jsonl: file not found"):
        load_data("beir", path=folder)
    for path in (folder / "qrels").iterdir():
        path.unlink()
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "?"}\n')
    with pytest.raises(DataError, match=r"qrels: expected train\.tsv, dev\.tsv, test\.tsv"):
        load_data("beir", path=folder)
    with pytest.raises(DataError, match="expected a folder"):
        load_data("beir", path=folder / "nowhere")


def test_qrels_without_a_positive(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").unlink()
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q2\td3\t0\n")
    with pytest.raises(DataError, match="expected at least one query with a score above 0"):
        load_data("beir", path=folder)


def test_qrels_files_must_not_separate_translations(folder: Path) -> None:
    (folder / "qrels" / "train.tsv").write_text(HEADER + "q1-en\td1\t1\n")
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q1-de\td1\t1\n")
    with pytest.raises(DataError, match="translations 'q1-en' and 'q1-de'"):
        load_data("beir", path=folder)


def test_a_hub_repository_reads_as_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def snapshot_download(repository: str, *, repo_type: str, allow_patterns: list[str]) -> str:
        assert (repository, repo_type) == ("me/mine", "dataset")
        assert "qrels/*.tsv" in allow_patterns
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert load_data("beir", hub="me/mine") == load_data("beir", path=folder)


# Ids: no tab, no line break. Texts: not blank. No lone surrogates, which UTF-8 cannot encode.
ids = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=4)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(str.strip)


@st.composite
def data_sets(draw: st.DrawFn) -> RetrievalData:
    passage_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    passages = tuple(Passage(i, draw(texts), draw(ids), draw(ids), draw(st.text(max_size=3))) for i in passage_ids)
    query_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    of_question = {p: draw(st.sampled_from(Split)) for p in ("a", "b")}
    queries, qrels = [], {}
    for query in query_ids:
        parallel = draw(st.sampled_from(["a", "b"]))
        queries.append(Query(query, draw(texts), draw(ids), parallel, of_question[parallel]))
        judged = draw(st.dictionaries(st.sampled_from(passage_ids), st.integers(-1, 3), max_size=4))
        qrels[query] = judged | {draw(st.sampled_from(passage_ids)): 1}
    return RetrievalData("beir", passages, tuple(queries), qrels)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(data_sets())
def test_saving_and_loading_returns_the_same_data(data: RetrievalData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_beir(data, Path(folder) / "new")
        again = load_data("beir", path=Path(folder) / "new")
    assert again == data
    assert all(list(again.qrels[q.id]) == list(data.qrels[q.id]) for q in data.queries)


def test_saving_checks_before_it_writes(folder: Path, tmp_path: Path) -> None:
    data = load_data("beir", path=folder)
    with pytest.raises(FileExistsError, match=r"corpus\.jsonl exists already"):
        save_beir(data, folder)
    bad = RetrievalData("x", (Passage("a\tb", "x", "d"),), (Query("q", "?", "en", "q"),), {"q": {"a\tb": 1}})
    with pytest.raises(DataError, match="passage id 'a\\\\tb'"):
        save_beir(bad, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_saved_files_are_plain_beir(folder: Path, tmp_path: Path) -> None:
    save_beir(load_data("beir", path=folder), tmp_path / "out")
    first = json.loads((tmp_path / "out" / "corpus.jsonl").read_text().splitlines()[0])
    assert first == {"_id": "d1", "title": "Tides", "text": "The Moon.", "document": "sea", "language": "de"}
    assert (tmp_path / "out" / "qrels" / "test.tsv").read_text() == HEADER + "q2\td3\t1\nq3\td2\t1\n"
    assert (tmp_path / "out" / "qrels" / "dev.tsv").read_text() == HEADER
