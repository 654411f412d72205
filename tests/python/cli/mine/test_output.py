"""``relkt mine``: the rows it writes, its summary and its help."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from mining_runs import FURTHER, ROWS, expected, read_jsonl, word_encoder, write_jsonl

import relkt
from relkt.encoders import encode_passages, encode_queries, load_encoder
from relkt.mining_files import OutputFormat


def test_triplets_are_those_of_mine(run, tmp_path, encoder):
    result = run("pairs.jsonl", "--output", "out.jsonl", "--corpus", "corpus.jsonl", "--scores",
                 "--num-negatives", 2, "--relative-margin", 0.1)  # fmt: skip
    assert result.exit_code == 0, result.output
    queries, passages, mined = expected(encoder, further=FURTHER, num_negatives=2, relative_margin=0.1)
    wanted = [
        {
            "anchor": row["query"],
            "positive": row["answer"],
            "negative": passages[negative],
            "scores": [float(mined.positive_scores[query]), float(score)],
        }
        for row in ROWS
        for query in [queries.index(row["query"])]
        for negative, score in zip(mined.indices[query], mined.scores[query], strict=True)
        if negative >= 0
    ]
    assert read_jsonl(tmp_path / "out.jsonl") == wanted
    assert not (tmp_path / "out.jsonl.work").exists()
    assert f"{len(queries)}" in result.stderr
    assert f"{(mined.indices >= 0).sum()}" in result.stderr
    assert f"{mined.scores[mined.indices >= 0].mean():.4f}" in result.stderr
    assert f"wrote out.jsonl: {len(wanted)} rows" in result.stderr
    assert result.stdout == ""


CONDITIONS = [
    {"num_negatives": 1},
    {"range_min": 2},
    {"strategy": "random"},
    {"strategy": "random", "seed": 7},
    {"strategy": "random", "range_max": 5},
    {"min_score": 0.1},
    {"max_score": 0.1},
    {"absolute_margin": 0.4},
    {"relative_margin": 0.8},
    {"max_positive_similarity": 0.7},
]


@pytest.mark.parametrize("conditions", CONDITIONS, ids=lambda conditions: list(conditions)[-1])
def test_every_condition_is_an_option(run, tmp_path, encoder, conditions):
    options = [part for name, value in conditions.items() for part in (f"--{name.replace('_', '-')}", value)]
    arguments = ["--format", "labeled-list", "--no-exclude-same-document", "--batch-size", 5, "--threads", 1]
    result = run("pairs.jsonl", "--output", "out.parquet", *arguments, *options)
    assert result.exit_code == 0, result.output
    queries, passages, mined = expected(encoder, documents=False, **conditions)
    found = {row["anchor"]: row["passages"][1:] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    wanted = {query: [passages[i] for i in mined.indices[row] if i >= 0] for row, query in enumerate(queries)}
    assert found == {query: negatives for query, negatives in wanted.items() if negatives}
    assert len(found) > 5
    without = {name: conditions[name] for name in list(conditions)[:-1]}
    assert mined.indices.tolist() != expected(encoder, documents=False, **without)[2].indices.tolist()


def test_formats(run, tmp_path, encoder):
    rows = [*ROWS[:6], {**ROWS[0], "answer": ROWS[5]["answer"]}]  # a query with two positives
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    queries, passages, mined = expected(encoder, rows, documents=False, num_negatives=2, min_score=0.1)
    assert set(mined.counts.tolist()) == {0, 1, 2}
    of = {query: [passages[i] for i in mined.indices[row] if i >= 0] for row, query in enumerate(queries)}
    tables = {}
    for kind in OutputFormat:
        for scores in (False, True):
            arguments = [
                "--format",
                kind.value,
                "--min-score",
                0.1,
                "--num-negatives",
                2,
                *(["--scores"] if scores else []),
            ]
            result = run(
                "pairs.jsonl", "--output", "o.parquet", "--overwrite", "--no-exclude-same-document", *arguments
            )
            assert result.exit_code == 0, result.output
            tables[kind.value, scores] = pq.read_table(tmp_path / "o.parquet").to_pylist()
    pairs = [(row["query"], row["answer"]) for row in rows]
    assert tables["triplet", False] == [
        {"anchor": q, "positive": p, "negative": n} for q, p in pairs for n in of[q]
    ]  # fmt: skip
    assert tables["n-tuple", False] == [
        {"anchor": q, "positive": p, "negative_1": of[q][0], "negative_2": of[q][1]}
        for q, p in pairs
        if len(of[q]) == 2
    ]
    assert tables["labeled-list", False] == [
        {"anchor": q, "passages": [p, *of[q]], "labels": [1] + [0] * len(of[q])} for q, p in pairs if of[q]
    ]
    assert tables["labeled-pair", False] == [
        {"anchor": query, "passage": text, "label": label}
        for query in queries
        for label, texts in ((1, [p for q, p in pairs if q == query]), (0, of[query]))
        for text in texts
    ]
    # Scores equal the model's scores; the positive's score comes first.
    model = load_encoder(encoder)
    score = lambda q, p: float(encode_queries(model, [q])[0] @ encode_passages(model, [p])[0])  # noqa: E731
    for row in tables["triplet", True]:
        assert row["scores"] == pytest.approx(
            [score(row["anchor"], row[k]) for k in ("positive", "negative")], abs=1e-6
        )
    for row in tables["n-tuple", True]:
        texts = [row[name] for name in ("positive", "negative_1", "negative_2")]
        assert row["scores"] == pytest.approx([score(row["anchor"], text) for text in texts], abs=1e-6)
    for row in tables["labeled-list", True]:
        assert row["scores"] == pytest.approx([score(row["anchor"], text) for text in row["passages"]], abs=1e-6)
    for row in tables["labeled-pair", True]:
        assert row["score"] == pytest.approx(score(row["anchor"], row["passage"]), abs=1e-6)
        assert "label" not in row


def test_the_summary_counts_missing_negatives(run, tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", [*ROWS[:6], ROWS[0]])
    result = run("pairs.jsonl", "--output", "o.jsonl", "--format", "n-tuple", "--min-score", 0.0,
                 "--no-exclude-same-document")  # fmt: skip
    _, _, mined = expected(encoder, ROWS[:6], documents=False, num_negatives=3, min_score=0.0)
    lines = {line.rsplit(maxsplit=1)[0].strip(): line.split()[-1] for line in result.stderr.splitlines() if line}
    served, fewer = (mined.counts == 3).sum(), ((mined.counts > 0) & (mined.counts < 3)).sum()
    assert served > 0 < fewer
    assert lines["queries"] == "6"
    assert lines["with all 3 negatives"] == str(served)
    assert lines["with fewer"] == str(fewer)
    assert lines["pairs without a row because negatives are missing"] == str(6 - served)
    assert lines["repeated pairs, each used once"] == "1"
    assert len(read_jsonl(tmp_path / "o.jsonl")) == served


def test_no_negatives_at_all_is_an_error_that_names_the_conditions(run, tmp_path, encoder):
    arguments = ["--output", "o.jsonl", "--corpus", "corpus.jsonl"]
    result = run("pairs.jsonl", *arguments, "--min-score", 0.99, "--max-score", 1, "--strategy", "random")
    assert result.exit_code == 1, result.output
    assert (
        "error: PAIRS: no negatives found for any of the 24 queries among the 32 passages under these conditions "
        "(--min-score 0.99; --max-score 1.0; other passages of a positive's document excluded, see "
        "--no-exclude-same-document); loosen them"
    ) in result.stderr
    assert not (tmp_path / "o.jsonl").exists()
    # Other conditions reuse the embeddings.
    result = run("pairs.jsonl", *arguments)
    assert result.exit_code == 2, result.output
    assert "--min-score was 0.99, is now None" in result.stderr
    before = (tmp_path / "o.jsonl.work" / "passages.relkt").stat().st_ino
    result = run("pairs.jsonl", *arguments, "--overwrite", "--format", "n-tuple", "--num-negatives", 30)
    assert result.exit_code == 1, result.output
    assert (
        "no rows: none of the 24 queries has all 30 negatives, which --format n-tuple requires; the maximum is 28 "
    ) in result.stderr
    assert (tmp_path / "o.jsonl.work" / "passages.relkt").stat().st_ino == before
    assert not (tmp_path / "o.jsonl").exists()
    result = run("pairs.jsonl", *arguments, "--num-negatives", 30)
    assert result.exit_code == 0, result.output
    assert "24 of 24 queries have fewer than 30 negatives" in result.stderr
    _, passages, mined = expected(encoder, further=FURTHER, num_negatives=30)
    assert [row["negative"] for row in read_jsonl(tmp_path / "o.jsonl")] == [
        passages[i] for rows in mined.indices for i in rows if i >= 0
    ]
    assert not (tmp_path / "o.jsonl.work").exists()


def test_two_passages_suffice(run, tmp_path):
    write_jsonl(tmp_path / "two.jsonl", [ROWS[0], ROWS[4]])
    result = run("two.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 0, result.output
    assert [row["negative"] for row in read_jsonl(tmp_path / "o.jsonl")] == [ROWS[4]["answer"], ROWS[0]["answer"]]
    assert "2 of 2 queries have fewer than 3 negatives, because no more passages" in result.stderr
    write_jsonl(tmp_path / "one.jsonl", ROWS[:1])
    result = run("one.jsonl", "--output", "none.jsonl")
    assert result.exit_code == 1, result.output
    assert "no negatives found for any of the 1 queries among the 1 passages" in result.stderr


def test_prompts(run, tmp_path, encoder):
    for name, options in (("a", ["--query-prompt", "tide ", "--passage-prompt", "moon "]), ("b", [])):
        assert run("pairs.jsonl", "--output", f"{name}.jsonl", "--scores", *options).exit_code == 0
    model = load_encoder(encoder)
    row = read_jsonl(tmp_path / "a.jsonl")[0]
    score = encode_queries(model, ["tide " + row["anchor"]])[0] @ encode_passages(model, ["moon " + row["positive"]])[0]
    assert row["scores"][0] == pytest.approx(float(score), abs=1e-6)
    assert (tmp_path / "a.jsonl").read_text() != (tmp_path / "b.jsonl").read_text()


def test_help_has_an_example_that_runs(run, tmp_path, monkeypatch):
    page = run("--help").stdout
    assert "Example: relkt mine relkt-mini --output negatives.parquet --relative-margin 0.05" in page
    conditions = [name for one in CONDITIONS for name in one]
    others = "no_exclude_same_document", "corpus", "threads", "batch_size", "query_prompt", "overwrite", "ids"
    for name in (*conditions, *others):
        assert f"--{name.replace('_', '-')}" in page
    for kind in OutputFormat:
        assert kind.value in page
    tiny = word_encoder(tmp_path / "tiny", [passage.text for passage in relkt.load_data("relkt-mini").passages])
    result = run("relkt-mini", "--output", "negatives.parquet", "--relative-margin", "0.05", "--encoder", tiny)
    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "negatives.parquet").column_names == ["anchor", "positive", "negative"]
    # No name is cut on a narrow terminal.
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("--help").stdout
    assert "…" not in narrow
    assert "--no-exclude-same-document" in narrow
    assert "--max-positive-similarity" in narrow


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_more_negatives_than_passages_take_no_memory(run, tmp_path, strategy):
    for number in (24, 10**12):
        arguments = ["--output", f"{number}.jsonl", "--num-negatives", number, "--strategy", strategy]
        result = run("pairs.jsonl", *arguments)
        assert result.exit_code == 0, result.output
        assert f"24 of 24 queries have fewer than {number} negatives" in result.stderr
    assert (tmp_path / "24.jsonl").read_bytes() == (tmp_path / f"{10**12}.jsonl").read_bytes()
