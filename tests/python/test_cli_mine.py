"""``relkt mine``: what it reads and writes, how it fails, and that a killed run goes on where it was."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from typer.testing import CliRunner

import relkt
from relkt.cli import app
from relkt.data.pair_files import PairColumns, read_pair_files
from relkt.data.pairs import PairSetBuilder
from relkt.data.types import DataError
from relkt.encoders import encode_passages, encode_queries, load_encoder
from relkt.mining import MiningConditions, Strategy
from relkt.mining_files import MiningOptions, OutputFormat, WorkFolderError, mine_files, steps
from relkt.mining_files.work_folder import WorkFolder
from relkt.storage import locked

TOPICS = ("tide", "moon", "bread", "glass", "train", "river", "stone", "cloud")
ROWS = [
    {
        "query": f"why {topic} {number} ?",
        "answer": f"{topic} has {TOPICS[(i + number) % 8]} number {number}",
        "document": f"about {topic}",
    }
    for i, topic in enumerate(TOPICS)
    for number in range(3)
]
FURTHER = [{"_id": f"c{i}", "text": f"{a} and {b} and more", "document": f"about {a}"} for i, (a, b) in
           enumerate(zip(TOPICS, TOPICS[3:] + TOPICS[:3], strict=True))]  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    texts = [text for row in (*ROWS, *FURTHER) for text in row.values()]
    return word_encoder(tmp_path_factory.mktemp("encoder"), [*texts, "ask tell"])


def word_encoder(folder: Path, texts: list[str]) -> str:
    """A random vector for each word."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    model.save(str(folder))
    return str(folder)


@pytest.fixture
def run(monkeypatch, tmp_path, encoder):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    write_jsonl(tmp_path / "corpus.jsonl", FURTHER)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(
        app, ["mine", "--encoder", encoder, *(str(argument) for argument in arguments)]
    )


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(encoder: str, rows=ROWS, further=(), documents=True, **conditions):
    """Queries, passages and what relkt.mine finds among them."""
    model = load_encoder(encoder)
    queries = list(dict.fromkeys(row["query"] for row in rows))
    document_of = {row["text"]: row["document"] for row in further} | {row["answer"]: row["document"] for row in rows}
    passages = list(dict.fromkeys([row["text"] for row in further] + [row["answer"] for row in rows]))
    positives = [[passages.index(row["answer"]) for row in rows if row["query"] == query] for query in queries]
    names = sorted(set(document_of.values()))
    groups = [names.index(document_of[text]) for text in passages] if documents else None
    return queries, passages, relkt.mine(
        encode_queries(model, queries), encode_passages(model, passages), positives, groups=groups, **conditions
    )  # fmt: skip


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
    # Scores: those of the model, the positive's own first.
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


def test_the_summary_says_what_is_missing(run, tmp_path, encoder):
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
    assert lines["pairs without a row, as negatives are missing"] == str(6 - served)
    assert lines["pairs given more than once, and used once"] == "1"
    assert len(read_jsonl(tmp_path / "o.jsonl")) == served


def test_no_negatives_at_all_is_an_error_that_names_the_conditions(run, tmp_path, encoder):
    arguments = ["--output", "o.jsonl", "--corpus", "corpus.jsonl"]
    result = run("pairs.jsonl", *arguments, "--min-score", 0.99, "--max-score", 1, "--strategy", "random")
    assert result.exit_code == 1, result.output
    assert (
        "error: no negatives: none of the 24 queries has one among the 32 passages under these conditions "
        "(--min-score 0.99; --max-score 1.0; no passages of a positive's document, see "
        "--no-exclude-same-document); loosen them"
    ) in result.stderr
    assert not (tmp_path / "o.jsonl").exists()
    # Other conditions go on from the embeddings.
    result = run("pairs.jsonl", *arguments)
    assert result.exit_code == 2, result.output
    assert "--min-score differs: 0.99 then, None now" in result.stderr
    before = (tmp_path / "o.jsonl.work" / "passages.relkt").stat().st_ino
    result = run("pairs.jsonl", *arguments, "--overwrite", "--format", "n-tuple", "--num-negatives", 30)
    assert result.exit_code == 1, result.output
    assert (
        "no rows: none of the 24 queries has all 30 negatives, which a row of --format n-tuple holds; the most is 28 "
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


def test_few_passages_are_enough(run, tmp_path):
    write_jsonl(tmp_path / "two.jsonl", [ROWS[0], ROWS[4]])
    result = run("two.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 0, result.output
    assert [row["negative"] for row in read_jsonl(tmp_path / "o.jsonl")] == [ROWS[4]["answer"], ROWS[0]["answer"]]
    assert "2 of 2 queries have fewer than 3 negatives, as there are no more" in result.stderr
    write_jsonl(tmp_path / "one.jsonl", ROWS[:1])
    result = run("one.jsonl", "--output", "none.jsonl")
    assert result.exit_code == 1, result.output
    assert "no negatives: none of the 1 queries has one among the 1 passages" in result.stderr


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_output_is_never_an_input(run, tmp_path, monkeypatch, overwrite):
    monkeypatch.setattr("relkt.mining_files.job.read_pair_files", None)
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (beir / name).write_text("theirs")
    (tmp_path / "o.jsonl.work").mkdir()
    write_jsonl(tmp_path / "o.jsonl.work" / "p.jsonl", ROWS)
    (tmp_path / "link.jsonl").symlink_to("pairs.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "pairs.jsonl")
    (tmp_path / "judged.jsonl").symlink_to(beir / "qrels" / "test.tsv")
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for given, output in [
        (["pairs.jsonl"], "pairs.jsonl"),
        (["pairs.jsonl"], "beir/../pairs.jsonl"),
        (["pairs.jsonl"], "folder/pairs.jsonl"),
        (["pairs.jsonl"], "link.jsonl"),
        (["pairs.jsonl"], "hard.jsonl"),
        (["link.jsonl"], "pairs.jsonl"),
        (["pairs.jsonl", "--corpus", "corpus.jsonl"], "corpus.jsonl"),
        (["beir"], "beir/corpus.jsonl"),
        (["folder/beir"], "beir/queries.jsonl"),
        (["beir"], "judged.jsonl"),
    ]:
        result = run(*given, "--output", output, *(["--overwrite"] if overwrite else []))
        assert result.exit_code == 2, result.output
        assert f"error: --output: expected another file than those that are read, got {output}" in result.stderr
    result = run("o.jsonl.work/p.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 2, result.output
    assert "holds no input, but o.jsonl.work/p.jsonl is in it" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_files_of_all_kinds_give_the_same(run, tmp_path):
    rows = [{**row, "query_id": f"q{i}", "passage_id": 100 + i} for i, row in enumerate(ROWS)]
    write_jsonl(tmp_path / "p.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows).append_column("e", pa.array([[0.5]] * len(rows))), tmp_path / "p.parquet")
    for name, delimiter in (("p.csv", ","), ("p.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    (tmp_path / "c.txt").write_text("".join(f"{row['text']}\n" for row in FURTHER), encoding="utf-8")
    write_jsonl(tmp_path / "c.jsonl", [{"text": row["text"]} for row in FURTHER])
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    write_jsonl(beir / "corpus.jsonl", [
        *({"_id": f"c{i}", "text": row["text"]} for i, row in enumerate(FURTHER)),
        *({"_id": str(row["passage_id"]), "text": row["answer"], "document": row["document"]} for row in rows),
    ])  # fmt: skip
    write_jsonl(beir / "queries.jsonl", [{"_id": row["query_id"], "text": row["query"]} for row in rows])
    for part, some in (("train", rows[:10]), ("test", rows[10:])):
        lines = ["query-id\tcorpus-id\tscore", *(f"{row['query_id']}\t{row['passage_id']}\t1" for row in some)]
        (beir / "qrels" / f"{part}.tsv").write_text("\n".join(lines) + "\n")

    found = {}
    for source, corpus in [
        ("p.jsonl", "c.txt"), ("p.parquet", "c.jsonl"), ("p.csv", "c.txt"), ("p.tsv", "c.txt"), ("beir", None)
    ]:  # fmt: skip
        result = run(source, "--output", f"{source}.out.jsonl", "--ids", *(["--corpus", corpus] if corpus else []))
        assert result.exit_code == 0, result.output
        found[source] = read_jsonl(tmp_path / f"{source}.out.jsonl")
    first = found["p.jsonl"]
    assert all(rows == first for name, rows in found.items() if name != "beir")
    texts = [{key: row[key] for key in ("anchor", "positive", "negative", "query_id", "positive_id")} for row in first]
    assert [{key: row[key] for key in texts[0]} for row in found["beir"]] == texts
    assert first[0]["query_id"] == "q0"
    assert first[0]["positive_id"] == "100"
    further = {row["text"] for row in FURTHER}
    assert {row["negative_id"] is None for row in first if row["negative"] in further} == {True}
    assert {row["negative_id"] for row in found["beir"]} & {f"c{i}" for i in range(8)}
    # One part of the folder.
    assert run("beir", "--output", "train.jsonl", "--ids", "--split", "train").exit_code == 0
    assert read_jsonl(tmp_path / "train.jsonl") == [
        row for row in found["beir"] if row["query_id"] in {r["query_id"] for r in rows[:10]}
    ]
    # No ids: every column but labels is trained on as a text.
    assert run("p.jsonl", "--output", "plain.jsonl", "--corpus", "c.txt").exit_code == 0
    assert read_jsonl(tmp_path / "plain.jsonl") == [
        {k: r[k] for k in ("anchor", "positive", "negative")} for r in first
    ]


def test_columns_by_name_and_lists_of_positives(run, tmp_path):
    renamed = [{"q": row["query"], "p": [row["answer"]], "pid": [f"p{i}"]} for i, row in enumerate(ROWS)]
    renamed[0]["p"].append(ROWS[4]["answer"])
    renamed[0]["pid"].append("p4")
    write_jsonl(tmp_path / "n.jsonl", renamed)
    result = run("n.jsonl", "--output", "o.jsonl", "--query-column", "q", "--positive-column", "p",
                 "--positive-id-column", "pid", "--num-negatives", 1, "--ids")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = [row for row in read_jsonl(tmp_path / "o.jsonl") if row["anchor"] == ROWS[0]["query"]]
    assert [row["positive_id"] for row in found] == ["p0", "p4"]
    assert found[0]["negative"] not in (ROWS[0]["answer"], ROWS[4]["answer"])


def test_prompts(run, tmp_path, encoder):
    for name, options in (("a", ["--query-prompt", "tide ", "--passage-prompt", "moon "]), ("b", [])):
        assert run("pairs.jsonl", "--output", f"{name}.jsonl", "--scores", *options).exit_code == 0
    model = load_encoder(encoder)
    row = read_jsonl(tmp_path / "a.jsonl")[0]
    score = encode_queries(model, ["tide " + row["anchor"]])[0] @ encode_passages(model, ["moon " + row["positive"]])[0]
    assert row["scores"][0] == pytest.approx(float(score), abs=1e-6)
    assert (tmp_path / "a.jsonl").read_text() != (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pairs.jsonl", "--output", "o.csv"], "error: --output: expected a file that ends in .parquet or .jsonl"),
        (["pairs.jsonl", "--output", "none/o.jsonl"], "--output: the folder of none/o.jsonl does not exist"),
        (["pairs.jsonl", "--output", "taken.jsonl"], "--output: taken.jsonl exists; give --overwrite to replace it"),
        (["missing.jsonl", "--output", "o.jsonl"], "missing.jsonl: file not found"),
        (["pairs.xlsx", "--output", "o.jsonl"], "pairs.xlsx: expected a file that ends in .jsonl"),
        (["blank.jsonl", "--output", "o.jsonl"], "blank.jsonl, line 2: expected the text of a query, got ' '"),
        (["number.jsonl", "--output", "o.jsonl"], "number.jsonl, line 1: expected a string in 'answer', got 3"),
        (["empty.jsonl", "--output", "o.jsonl"], "empty.jsonl: expected at least one pair, got none"),
        (["broken.csv", "--output", "o.jsonl"], "broken.csv, line 3: expected 2 values, as in the header, got 3"),
        (["fake.parquet", "--output", "o.jsonl"], "fake.parquet: expected a Parquet file"),
        (["ids.jsonl", "--output", "o.jsonl"], "ids.jsonl, line 2: query id '1' has the text 'b', but 'a' before"),
        (["noid.jsonl", "--output", "o.jsonl"], "noid.jsonl, line 2: expected a text or an integer in 'query_id'"),
        (["other.jsonl", "--output", "o.jsonl"], "other.jsonl, line 1: no column 'anchor' or 'query' or 'question'; "
         "it has 'text', 'answer' (--query-column says which one to read)"),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--query-column", "q"],
            "pairs.jsonl, line 1: no column 'q'; it has 'query', 'answer', 'document' (--query-column says",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "half.txt"], "half.txt, line 2: expected the text of"),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus-id-column", "x"], "--corpus: expected a file to go with"),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--corpus", "pairs.jsonl", "--corpus-id-column", "x"],
            "pairs.jsonl, line 1: no column 'x'; it has 'query', 'answer', 'document' (--corpus-id-column says",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "empty.jsonl"], "empty.jsonl: expected at least one pas"),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "empty.txt"], "empty.txt: expected at least one passage"),
        (["pairs.jsonl", "--output", "o.jsonl", "--split", "train"], "error: --split: expected only with a folder"),
        (
            ["relkt-mini", "--output", "o.jsonl", "--query-column", "q", "--document-column", "d"],
            "--query-column, --document-column: expected only with a file of pairs, got the folder relkt-mini",
        ),
        (["relkt-mini", "--output", "o.jsonl", "--corpus", "pairs.jsonl"], "error: --corpus: expected none with"),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--range-max", "2"],
            "error: --range-max: expected at least --range-min + --num-negatives = 3, so",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--min-score", "nan"], "error: --min-score: expected a finite number"),
        (["pairs.jsonl", "--output", "o.jsonl", "--encoder", "nowhere/none/none"], "error: --encoder: "),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--format", "n-tuple", "--num-negatives", "24"],
            "error: --num-negatives: expected fewer than the 24 passages with --format n-tuple",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--device", "gpu"], "--device: expected cpu, or a GPU that"),
        (["pairs.jsonl", "--output", "stranger.jsonl"], "stranger.jsonl.work: expected a folder of ours"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_before_anything_is_encoded(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("relkt.encoders.encode_passages", None)
    files = {
        "taken.jsonl": "mine",
        "pairs.xlsx": "",
        "blank.jsonl": '{"query": "a", "answer": "b"}\n{"query": " ", "answer": "b"}\n',
        "number.jsonl": '{"query": "a", "answer": 3}\n',
        "empty.jsonl": "",
        "empty.txt": "",
        "broken.csv": "query,answer\na,b\na,b,c\n",
        "fake.parquet": "no",
        "ids.jsonl": '{"query": "a", "answer": "b", "query_id": 1}\n{"query": "b", "answer": "b", "query_id": 1}\n',
        "noid.jsonl": '{"query": "a", "answer": "b", "query_id": 1}\n{"query": "b", "answer": "b"}\n',
        "other.jsonl": '{"text": "a", "answer": "b"}\n',
        "half.txt": "one\n\nthree\n",
        "stranger.jsonl.work/photo": "mine",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


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


# Killed runs


def mine_small(
    folder: Path,
    encoder: str,
    output: str = "out.parquet",
    kill_at: int | None = None,
    batch_size: int = 5,
    **conditions,
) -> object:
    """Mines with parts of a few texts; is killed when so many files are complete, before the next gets its name."""
    steps.ENCODE_PART, steps.MINE_PART = 5, 10
    done = 0
    rename = Path.replace

    def count(self: Path, target: Path) -> Path:
        nonlocal done
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return rename(self, target)

    Path.replace = count
    try:
        return mine_files(
            folder / "pairs.jsonl",
            folder / output,
            encoder=encoder,
            options=MiningOptions(
                conditions=MiningConditions(**({"num_negatives": 2, "relative_margin": 0.1} | conditions)),
                batch_size=batch_size,
            ),
            threads=1,
            scores=True,
        )
    finally:
        Path.replace = rename


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(steps, "ENCODE_PART", steps.ENCODE_PART)
    monkeypatch.setattr(steps, "MINE_PART", steps.MINE_PART)


@pytest.mark.usefixtures("small_parts")
def test_a_draw_does_not_depend_on_parts(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    options = {"num_negatives": 2, "strategy": Strategy.RANDOM, "seed": 7}
    mine_small(tmp_path, encoder, relative_margin=None, **options)
    queries, passages, mined = expected(encoder, **options)
    assert len(queries) > 2 * steps.MINE_PART
    found = [(row["anchor"], row["negative"]) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert found == [(query, passages[i]) for query, rows in zip(queries, mined.indices, strict=True) for i in rows]


@pytest.mark.usefixtures("small_parts")
def test_a_killed_run_goes_on_and_writes_the_same_bytes(tmp_path, encoder, monkeypatch):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    assert mine_small(tmp_path, encoder, "whole.parquet").resumed is False
    context = multiprocessing.get_context("fork")
    # 24 passages and 24 queries in 5 parts each, the index, 3 parts of negatives, manifest, mark of the output, output.
    for kill_at in range(16):
        process = context.Process(target=mine_small, args=(tmp_path, encoder, "out.parquet", kill_at))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        work = tmp_path / "out.parquet.work"
        assert not (tmp_path / "out.parquet").exists()
        there = {path.name for path in work.iterdir() if not path.name.endswith(".partial")}
        encoded: list[tuple[str, int]] = []
        with monkeypatch.context() as patch:
            for kind, encode in (("queries", encode_queries), ("passages", encode_passages)):

                def counted(model, texts, *, encode=encode, kind=kind, encoded=encoded, **options):
                    encoded.append((kind, len(texts)))
                    return encode(model, texts, **options)

                patch.setattr(f"relkt.encoders.encode_{kind}", counted)
            summary = mine_small(tmp_path, encoder)
        assert summary.resumed is (kill_at > 0)
        assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
        assert not work.exists()
        # What was there was not encoded again.
        parts = {kind: 5 - sum(name.startswith(kind + "-") for name in there) for kind in ("passages", "queries")}
        if "passages.relkt" in there:
            parts["passages"] = 0
        assert {kind: sum(one == kind for one, _ in encoded) for kind in parts} == parts
        (tmp_path / "out.parquet").unlink()


@pytest.mark.usefixtures("small_parts")
def test_one_run_at_a_time(run, tmp_path, encoder):
    lock = tmp_path / "o.jsonl.work.lock"
    with locked(tmp_path / "o.jsonl.work"):
        result = run("pairs.jsonl", "--output", "o.jsonl")
        assert result.exit_code == 2, result.output
        assert "error: another run is using o.jsonl.work" in result.stderr
        assert lock.exists()
        assert run("pairs.jsonl", "--output", "other.jsonl").exit_code == 0
    assert not lock.exists()
    # A run that was killed leaves the file, but no lock.
    process = multiprocessing.get_context("fork").Process(target=mine_small, args=(tmp_path, encoder, "o.jsonl", 4))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert lock.exists()
    mine_small(tmp_path, encoder, "o.jsonl")
    assert not lock.exists()


def test_a_lock_deleted_meanwhile_is_none(tmp_path, monkeypatch):
    work, lock = tmp_path / "o.work", tmp_path / "o.work.lock"
    flock, tries = fcntl.flock, []

    def late(file, how):
        if not tries:  # the run before ends between opening and locking
            lock.unlink()
        tries.append(how)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(work):
        assert len(tries) == 2
        assert lock.exists()
        with pytest.raises(WorkFolderError, match="another run is using"), locked(work):
            pass
        assert lock.exists()
    assert not lock.exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "o.work"):
        assert list(tmp_path.iterdir()) == [tmp_path / "o.work.lock"]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_parts")
def test_what_was_embedded_before_ctrl_c_is_kept(tmp_path, encoder, monkeypatch):
    assert steps.ENCODE_PART == 1024
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    calls = []

    def interrupted(model, texts, **options):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode_passages(model, texts, **options)

    monkeypatch.setattr("relkt.encoders.encode_passages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mine_small(tmp_path, encoder)
    assert calls == [5, 5, 5]
    assert sorted(path.name for path in (tmp_path / "out.parquet.work").glob("*.npy")) == [
        "passages-000000.npy", "passages-000001.npy"
    ]  # fmt: skip
    assert not (tmp_path / "out.parquet.work.lock").exists()
    summary = mine_small(tmp_path, encoder)
    assert summary.resumed
    assert calls == [5, 5, 5, 5, 5, 4]


@pytest.mark.parametrize(("batch_size", "sizes"), [(3, [5, 5, 5, 5, 4]), (7, [7, 7, 7, 3])])
@pytest.mark.usefixtures("small_parts")
def test_batches_may_be_larger_than_parts(tmp_path, encoder, monkeypatch, batch_size, sizes):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    encoded = []

    def counted(model, texts, **options):
        encoded.append(len(texts))
        return encode_queries(model, texts, **options)

    monkeypatch.setattr("relkt.encoders.encode_queries", counted)
    mine_small(tmp_path, encoder, batch_size=batch_size, relative_margin=None)
    assert encoded == sizes
    queries, passages, mined = expected(encoder, num_negatives=2)
    found = [(row["anchor"], row["negative"]) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert found == [(query, passages[i]) for query, rows in zip(queries, mined.indices, strict=True) for i in rows]


@pytest.mark.usefixtures("small_parts")
def test_work_of_other_inputs_or_options_is_an_error(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    process = multiprocessing.get_context("fork").Process(target=mine_small, args=(tmp_path, encoder, "out.parquet", 4))
    process.start()
    process.join(60)
    work = tmp_path / "out.parquet.work"
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    with pytest.raises(
        WorkFolderError, match=r"conditions.num_negatives differs: 2 then, 3 now.*--overwrite to replace"
    ):
        mine_small(tmp_path, encoder, num_negatives=3)
    write_jsonl(tmp_path / "pairs.jsonl", ROWS[1:])
    with pytest.raises(WorkFolderError, match=r"inputs\.pairs differs"):
        mine_small(tmp_path, encoder)
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before
    summary = mine_files(tmp_path / "pairs.jsonl", tmp_path / "out.parquet", encoder=encoder, overwrite=True)
    assert summary.resumed is False
    assert summary.pairs == len(ROWS) - 1


def test_the_manifest_names_what_differs(tmp_path):
    folder = WorkFolder(tmp_path / "o.jsonl")
    assert folder.open({"a": {"b": 1}, "c": "x" * 99, "old": 1}, overwrite=False) is False
    assert folder.open({"a": {"b": 1}, "c": "x" * 99, "old": 1}, overwrite=False) is True
    with pytest.raises(WorkFolderError) as error:
        folder.open({"a": {"b": 2}, "c": "y" * 99, "new": 1}, overwrite=False)
    assert (
        "a.b differs: 1 then, 2 now; c differs; old is there then but not now; new is there now but not then."
        in str(error.value)
    )
    (folder.path / "manifest.json").write_text("[]")
    with pytest.raises(WorkFolderError, match="expected a manifest of ours, got somebody else's"):
        folder.open({}, overwrite=False)


# What is in the way


def stop_at(folder: Path, encoder: str, complete: int, output: str = "out.parquet") -> Path:
    """The work folder of a run that is killed when so many files are complete."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=mine_small, args=(folder, encoder, output, complete))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    return folder / f"{output}.work"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("manifest", ['{"name": "app", "version": 3}', '{"relkt": "mining"}', "[]", '{"vers', "\xff"])
def test_a_folder_of_somebody_else_is_never_touched(run, tmp_path, manifest, overwrite):
    work = tmp_path / "o.jsonl.work"
    (work / "photos").mkdir(parents=True)
    (work / "photos" / "a").write_text("mine")
    (work / "mined-000000.npz").write_text("mine too")
    (work / "manifest.json").write_text(manifest, encoding="latin-1")
    before = contents(tmp_path)
    result = run("pairs.jsonl", "--output", "o.jsonl", *(["--overwrite"] if overwrite else []))
    assert result.exit_code == 2, result.output
    wanted = "expected a manifest of ours, got somebody else's" if manifest[-1] in "}]" else "expected JSON that can be"
    assert f"error: o.jsonl.work/manifest.json: {wanted}" in result.stderr
    assert "move o.jsonl.work away" in result.stderr
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("small_parts")
def test_files_of_somebody_else_in_our_folder_stay(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    work = stop_at(tmp_path, encoder, 4)
    (work / "mined-notes.txt").write_text("mine")
    (work / "queries-000000.npy.partial").write_text("left behind")
    before = contents(work)
    assert "relkt" in json.loads(before["manifest.json"])
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "out.parquet"
    with pytest.raises(WorkFolderError, match=r"expected files of ours only, .* got 'mined-notes\.txt' among"):
        mine_files(pairs, output, encoder=encoder, options=MiningOptions(batch_size=9), overwrite=True)
    assert contents(work) == before
    assert mine_small(tmp_path, encoder).resumed
    assert contents(work) == {"mined-notes.txt": b"mine"}
    with pytest.raises(WorkFolderError, match=r"expected a folder of ours, got one without manifest\.json"):
        mine_files(pairs, output, encoder=encoder, overwrite=True)
    assert contents(work) == {"mined-notes.txt": b"mine"}


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-70]),
    "empty": lambda path: path.write_bytes(b""),
    "no header": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "cut header": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "longer": lambda path: path.write_bytes(path.read_bytes() * 2),
    "other shape": lambda path: np.save(path, np.zeros((5, 3), np.float32)),
    "other rows": lambda path: np.save(path, np.zeros((3, 16), np.float32)),
    "other type": lambda path: np.save(path, np.zeros((5, 16), np.int32)),
}


@pytest.mark.usefixtures("small_parts")
def test_damaged_parts_are_made_again(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    mine_small(tmp_path, encoder, "whole.parquet")
    # After the manifest: 5 parts of passages, the index, 5 of queries, 3 of negatives.
    cases = [(3, "passages-000001.npy", kind) for kind in DAMAGE]
    cases += [(9, "queries-000001.npy", "cut"), (9, "passages.relkt", "cut"), (9, "passages.relkt", "other shape")]
    cases += [(14, "mined-000001.npz", kind) for kind in ("cut", "empty", "no header", "cut header", "other type")]
    for complete, name, kind in cases:
        work = stop_at(tmp_path, encoder, complete)
        DAMAGE[kind](work / name)
        if (work / f"{name}.npy").exists():  # NumPy's own idea of a name
            (work / f"{name}.npy").replace(work / name)
        assert mine_small(tmp_path, encoder).resumed
        assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes(), (name, kind)
        assert not work.exists()


def write_on_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    work = WorkFolder(folder / "o.jsonl")
    work.open({}, overwrite=False)
    for rows in (20, 62, 63, 64, 65, 127, 128):
        array = np.ones((rows, 16), dtype=np.float32)
        for name, write in (
            ("a.npy", lambda name, array=array: work.write_array(name, array)),
            ("a.npz", lambda name, array=array: work.write_arrays(name, {"a": array})),
        ):
            for room in (100, 1000, 64 * rows + 120):
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
                with pytest.raises(OSError, match=f"File too large: .*o.jsonl.work/{name}.partial"):
                    write(name)
                assert [path.name for path in work.path.iterdir()] == ["manifest.json"]


def test_a_full_disk_leaves_no_part_that_is_cut(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=write_on_a_full_disk, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_file_cut_by_the_disk_does_not_get_its_name(tmp_path):
    def cut(file):
        file.write(b"abc")
        file.flush()
        os.ftruncate(file.fileno(), 1)

    work = WorkFolder(tmp_path / "o.jsonl")
    work.open({}, overwrite=False)
    with pytest.raises(OSError, match=r"expected 3 bytes on the disk, got 1: .*o\.jsonl\.work/x\.partial"):
        work.write("x", cut)
    assert [path.name for path in work.path.iterdir()] == ["manifest.json"]


def lock_on_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for room in (0, 5):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match=r": .*o\.work\.lock"), locked(folder / "o.work"):
            pass
        assert not list(folder.iterdir())


def test_a_full_disk_leaves_no_lock(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=lock_on_a_full_disk, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_an_output_that_cannot_be_finished(run, tmp_path, monkeypatch):
    def full(path, *_, **__):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("relkt.mining_files.job.write_table", full)
        result = run("pairs.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 2, result.output
    assert "No space left on device: 'o.jsonl.work.partial'" in result.stderr
    assert not (tmp_path / "o.jsonl").exists()
    assert not (tmp_path / "o.jsonl.work.partial").exists()
    assert run("pairs.jsonl", "--output", "o.jsonl").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "o.jsonl", "pairs.jsonl"]


def test_files_of_somebody_else_beside_the_output(run, tmp_path):
    for name, message in {
        "o.jsonl.work.lock": "o.jsonl.work.lock: expected a lock file of relkt, got a file with other content",
        "o.jsonl.work.partial": "o.jsonl.work.partial: expected no such file",
    }.items():
        (tmp_path / name).write_text("mine")
        result = run("pairs.jsonl", "--output", "o.jsonl", "--overwrite")
        assert result.exit_code == 2, result.output
        assert f"error: {message}" in result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", name, "pairs.jsonl"]
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "o.jsonl.work.lock").touch()
    assert run("pairs.jsonl", "--output", "o.jsonl").exit_code == 0
    assert (tmp_path / "o.jsonl.work.lock").read_bytes() == b""


def test_a_place_that_cannot_be_written_is_the_output_s(run, tmp_path, monkeypatch):
    (tmp_path / "o.jsonl.work.lock").mkdir()
    result = run("pairs.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 2, result.output
    assert "error: --output: expected a writable place, got o.jsonl.work.lock: Is a dir" in result.stderr
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    result = run("pairs.jsonl", "--output", "other.jsonl")
    assert result.exit_code == 2, result.output
    assert "error: --output: expected a writable place, got other.jsonl" in result.stderr


@pytest.mark.usefixtures("small_parts")
def test_links(run, tmp_path):
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as elsewhere:  # another device
        (tmp_path / "o.jsonl.work").symlink_to(elsewhere, target_is_directory=True)
        assert run("pairs.jsonl", "--output", "o.jsonl").exit_code == 0
        assert (tmp_path / "o.jsonl.work").is_symlink()
        assert not list(Path(elsewhere).iterdir())
    wanted = (tmp_path / "o.jsonl").read_bytes()
    (tmp_path / "o.jsonl.work").unlink()
    (tmp_path / "o.jsonl.work").symlink_to("not there yet")
    assert run("pairs.jsonl", "--output", "o.jsonl", "--overwrite").exit_code == 0
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_text("old")
    for link, target in (("link.jsonl", "old"), ("new.jsonl", "new")):
        (tmp_path / link).symlink_to(Path("data") / target)
        result = run("pairs.jsonl", "--output", link, "--overwrite")
        assert result.exit_code == 0, result.output
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / "data" / target).read_bytes() == wanted
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["new", "old"]


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_no_room_is_made_for_more_negatives_than_passages(run, tmp_path, strategy):
    for number in (24, 10**12):
        arguments = ["--output", f"{number}.jsonl", "--num-negatives", number, "--strategy", strategy]
        result = run("pairs.jsonl", *arguments)
        assert result.exit_code == 0, result.output
        assert f"24 of 24 queries have fewer than {number} negatives" in result.stderr
    assert (tmp_path / "24.jsonl").read_bytes() == (tmp_path / f"{10**12}.jsonl").read_bytes()


@pytest.mark.usefixtures("small_parts")
def test_an_encoder_by_another_name_goes_on(tmp_path, encoder, monkeypatch):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    stop_at(tmp_path, encoder, 4)
    monkeypatch.chdir(Path(encoder).parent)
    assert mine_small(tmp_path, f"./{Path(encoder).name}").resumed


# Pairs


def test_candidacy_with_ids_and_documents():
    builder = PairSetBuilder()
    rows = [builder.add_passage(text, id=one, document=document, where="here") for text, one, document in [
        ("x", "0", "d"), ("y", "1", "d"), ("x", "2", "e"), ("z", "3", None), ("ask", "4", None),
    ]]  # fmt: skip
    query, other = builder.add_query("ask", where="here"), builder.add_query("else", where="here")
    builder.add_pair(query, rows[0])
    builder.add_pair(other, builder.add_passage("z", where="here"))
    builder.add_pair(other, rows[3])
    found = builder.build()
    assert found.repeated == 1
    assert found.pairs.tolist() == [[0, 0], [1, 3]]
    positives, groups, exclude = found.candidacy()
    assert positives == [[0], [3]]
    assert groups.tolist() == [0, 0, 1, 5, 6]
    assert exclude == [[2, 4], []]  # the same text, and the query's own
    assert found.candidacy(same_document=False).groups is None


def test_a_text_in_several_documents():
    builder = PairSetBuilder()
    for text, document in [("x", "d"), ("x", "e"), ("y", "e"), ("z", "d"), ("w", "f")]:
        builder.add_passage(text, document=document, where="here")
    builder.add_pair(builder.add_query("q", where="here"), 0)
    builder.add_pair(builder.add_query("r", where="here"), 3)
    positives, groups, exclude = builder.build().candidacy()
    assert positives == [[0], [3]]
    assert groups is None
    assert exclude == [[0, 1, 2], [3]]
    assert np.array(builder.build().documents[0]).tolist() == ["d", "e"]


# Columns


@pytest.mark.parametrize("corpus", [False, True])
def test_documents_may_be_in_some_records_only(tmp_path, corpus):
    some = [
        {"query": "q", "answer": "x"},
        {"query": "r", "answer": "y", "document": "d"},
        {"query": "s", "answer": "z", "document": None},
        {"query": "t", "answer": "w", "document": "d"},
    ]
    found = []
    for number, rows in enumerate((some, some[::-1])):
        path = tmp_path / f"{number}.jsonl"
        write_jsonl(path, rows)
        if corpus:
            write_jsonl(tmp_path / "p.jsonl", [{"query": row["query"], "answer": row["answer"]} for row in rows])
        read = read_pair_files(tmp_path / "p.jsonl" if corpus else path, path if corpus else None)
        found.append(dict(zip(read.passages, read.documents, strict=True)))
    assert found[0] == found[1] == {"x": (), "y": ("d",), "z": (), "w": ("d",)}


@pytest.mark.parametrize("first", [0, 1])
def test_columns_of_some_records_only_are_never_dropped(tmp_path, first):
    path, other = tmp_path / "p.jsonl", tmp_path / "c.jsonl"
    turn = slice(None, None, -1 if first else 1)
    write_jsonl(path, [{"query": "a", "answer": "b", "query_id": 1}, {"query": "c", "answer": "d"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected a text or an integer in 'query_id', got None"):
        read_pair_files(path)
    write_jsonl(path, [{"query": "a", "answer": ["b"], "passage_id": [1]}, {"query": "c", "answer": ["d"]}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected 1 ids in 'passage_id'"):
        read_pair_files(path)
    write_jsonl(path, [{"query": "a", "answer": "b", "document": "d"}, {"query": "c", "answer": "d",
                "document_id": "e"}][turn])  # fmt: skip
    with pytest.raises(DataError, match=rf"line {2 - first}: expected the document in 'document', as in other "
                       r"records, got it in 'document_id' \(columns\.document says"):  # fmt: skip
        read_pair_files(path)
    read = read_pair_files(path, columns=PairColumns(document="document_id"))
    assert sorted(read.documents) == [(), ("e",)]
    write_jsonl(path, ROWS[:1])
    write_jsonl(other, [{"text": "a", "_id": 1}, {"text": "b"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected a text or an integer in '_id', got None"):
        read_pair_files(path, other)
    write_jsonl(path, [{"query": "a", "answer": "b"}, {"answer": "d"}][turn])
    with pytest.raises(DataError, match=f"line {2 - first}: expected the field 'query', got only 'answer'"):
        read_pair_files(path)
