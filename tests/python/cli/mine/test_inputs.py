"""``relkt mine``: its input files, and errors about them."""

from __future__ import annotations

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mining_runs import FURTHER, ROWS, read_jsonl, write_jsonl


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_output_is_never_an_input(run, tmp_path, monkeypatch, overwrite):
    monkeypatch.setattr("relkt.mining_files.job.read_pair_files", None)
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (beir / name).write_text("foreign")
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
        assert f"error: --output: expected a file other than the inputs, got {output}" in result.stderr
    result = run("o.jsonl.work/p.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 2, result.output
    assert "holds no input, got the input o.jsonl.work/p.jsonl in it" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_all_input_formats_give_the_same_output(run, tmp_path):
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
    # One split of the folder.
    assert run("beir", "--output", "train.jsonl", "--ids", "--split", "train").exit_code == 0
    assert read_jsonl(tmp_path / "train.jsonl") == [
        row for row in found["beir"] if row["query_id"] in {r["query_id"] for r in rows[:10]}
    ]
    # Without --ids there are no id columns, which a trainer would treat as texts.
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pairs.jsonl", "--output", "o.csv"], "error: --output: expected a file that ends in .parquet or .jsonl"),
        (["pairs.jsonl", "--output", "none/o.jsonl"], "--output: the folder of none/o.jsonl does not exist"),
        (["pairs.jsonl", "--output", "taken.jsonl"], "--output: taken.jsonl exists; use --overwrite to replace it"),
        (["missing.jsonl", "--output", "o.jsonl"], "missing.jsonl: file not found"),
        (["pairs.xlsx", "--output", "o.jsonl"], "pairs.xlsx: expected a file that ends in .jsonl"),
        (["blank.jsonl", "--output", "o.jsonl"], "blank.jsonl, line 2: expected the text of a query, got ' '"),
        (["number.jsonl", "--output", "o.jsonl"], "number.jsonl, line 1: expected a string in 'answer', got 3"),
        (["empty.jsonl", "--output", "o.jsonl"], "empty.jsonl: expected at least one pair, got none"),
        (["broken.csv", "--output", "o.jsonl"], "broken.csv, line 3: expected 2 values, as in the header, got 3"),
        (["fake.parquet", "--output", "o.jsonl"], "fake.parquet: expected a Parquet file"),
        (["ids.jsonl", "--output", "o.jsonl"], "ids.jsonl, line 2: query id '1' has the text 'b', but 'a' before"),
        (["noid.jsonl", "--output", "o.jsonl"], "noid.jsonl, line 2: expected a text or an integer in 'query_id'"),
        (["other.jsonl", "--output", "o.jsonl"], "--query-column: other.jsonl, line 1: no column 'anchor' or 'query' "
         "or 'question'; it has 'text', 'answer'"),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--query-column", "q"],
            "--query-column: pairs.jsonl, line 1: no column 'q'; it has 'query', 'answer', 'document'",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "half.txt"], "half.txt, line 2: expected the text of"),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus-id-column", "x"], "--corpus: expected a file, because"),
        (
            ["pairs.jsonl", "--output", "o.jsonl", "--corpus", "pairs.jsonl", "--corpus-id-column", "x"],
            "--corpus-id-column: pairs.jsonl, line 1: no column 'x'; it has 'query', 'answer', 'document'",
        ),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "empty.jsonl"], "empty.jsonl: expected at least one pas"),
        (["pairs.jsonl", "--output", "o.jsonl", "--corpus", "empty.txt"], "empty.txt: expected at least one passage"),
        (["pairs.jsonl", "--output", "o.jsonl", "--split", "train"], "error: --split: expected only with a folder"),
        (
            ["relkt-mini", "--output", "o.jsonl", "--query-column", "q", "--document-column", "d"],
            "--query-column, --document-column: expected no column names for a folder, got the folder relkt-mini",
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
        (["pairs.jsonl", "--output", "stranger.jsonl"], "stranger.jsonl.work is not a work folder of relkt"),
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
