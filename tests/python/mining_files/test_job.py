"""Mining of files: a killed run resumes and writes the same output."""

from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mining_runs import ROWS, contents, expected, mine_small, write_jsonl

from relkt.encoders import encode_passages, encode_queries
from relkt.mining import Strategy
from relkt.mining_files import MiningOptions, WorkFolderError, mine_files, steps


@pytest.mark.usefixtures("small_parts")
def test_a_draw_does_not_depend_on_parts(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    options = {"num_negatives": 2, "strategy": Strategy.RANDOM, "seed": 7}
    mine_small(tmp_path, encoder, relative_margin=None, **options)
    queries, passages, mined = expected(encoder, **options)
    assert len(queries) > 2 * steps.MINE_PART
    found = [(row["anchor"], row["negative"]) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert found == [(query, passages[i]) for query, rows in zip(queries, mined.indices, strict=True) for i in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_a_killed_run_resumes_and_writes_the_same_bytes(tmp_path, encoder, monkeypatch):
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
        # Finished parts were not encoded again.
        parts = {kind: 5 - sum(name.startswith(kind + "-") for name in there) for kind in ("passages", "queries")}
        if "passages.relkt" in there:
            parts["passages"] = 0
        assert {kind: sum(one == kind for one, _ in encoded) for kind in parts} == parts
        (tmp_path / "out.parquet").unlink()


@pytest.mark.usefixtures("small_parts")
def test_finished_parts_are_kept_after_ctrl_c(tmp_path, encoder, monkeypatch):
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
def test_work_with_other_inputs_or_options_is_an_error(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    process = multiprocessing.get_context("fork").Process(target=mine_small, args=(tmp_path, encoder, "out.parquet", 4))
    process.start()
    process.join(60)
    work = tmp_path / "out.parquet.work"
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    with pytest.raises(WorkFolderError, match=r"conditions.num_negatives was 2, is now 3.*overwrite=True to replace"):
        mine_small(tmp_path, encoder, num_negatives=3)
    write_jsonl(tmp_path / "pairs.jsonl", ROWS[1:])
    with pytest.raises(WorkFolderError, match=r"inputs\.pairs differs"):
        mine_small(tmp_path, encoder)
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before
    summary = mine_files(tmp_path / "pairs.jsonl", tmp_path / "out.parquet", encoder=encoder, overwrite=True)
    assert summary.resumed is False
    assert summary.pairs == len(ROWS) - 1


def stop_at(folder: Path, encoder: str, complete: int, output: str = "out.parquet") -> Path:
    """The work folder of a run that is killed when ``complete`` files are complete."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=mine_small, args=(folder, encoder, output, complete))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    return folder / f"{output}.work"


@pytest.mark.usefixtures("small_parts")
def test_foreign_files_in_the_work_folder_are_kept(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    work = stop_at(tmp_path, encoder, 4)
    (work / "mined-notes.txt").write_text("mine")
    (work / "queries-000000.npy.partial").write_text("left behind")
    before = contents(work)
    assert "relkt" in json.loads(before["manifest.json"])
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "out.parquet"
    with pytest.raises(WorkFolderError, match=r"contains files that relkt did not write \('mined-notes\.txt'\)"):
        mine_files(pairs, output, encoder=encoder, options=MiningOptions(batch_size=9), overwrite=True)
    assert contents(work) == before
    assert mine_small(tmp_path, encoder).resumed
    assert contents(work) == {"mined-notes.txt": b"mine"}
    with pytest.raises(WorkFolderError, match=r"is not a work folder of relkt: it has no manifest\.json"):
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


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_damaged_parts_are_computed_again(tmp_path, encoder):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    mine_small(tmp_path, encoder, "whole.parquet")
    # After the manifest: 5 parts of passages, the index, 5 of queries, 3 of negatives.
    cases = [(3, "passages-000001.npy", kind) for kind in DAMAGE]
    cases += [(9, "queries-000001.npy", "cut"), (9, "passages.relkt", "cut"), (9, "passages.relkt", "other shape")]
    cases += [(14, "mined-000001.npz", kind) for kind in ("cut", "empty", "no header", "cut header", "other type")]
    for complete, name, kind in cases:
        work = stop_at(tmp_path, encoder, complete)
        DAMAGE[kind](work / name)
        if (work / f"{name}.npy").exists():  # np.save adds a suffix
            (work / f"{name}.npy").replace(work / name)
        assert mine_small(tmp_path, encoder).resumed
        assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes(), (name, kind)
        assert not work.exists()


@pytest.mark.usefixtures("small_parts")
def test_the_same_encoder_under_another_name_resumes(tmp_path, encoder, monkeypatch):
    write_jsonl(tmp_path / "pairs.jsonl", ROWS)
    stop_at(tmp_path, encoder, 4)
    monkeypatch.chdir(Path(encoder).parent)
    assert mine_small(tmp_path, f"./{Path(encoder).name}").resumed
