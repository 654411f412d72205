"""``relkt mine``: files in the way of the output and of the work folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from mining_runs import contents, mine_small

from relkt.storage import locked


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
    # A killed run leaves the file, but not the lock.
    process = multiprocessing.get_context("fork").Process(target=mine_small, args=(tmp_path, encoder, "o.jsonl", 4))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert lock.exists()
    mine_small(tmp_path, encoder, "o.jsonl")
    assert not lock.exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("manifest", ['{"name": "app", "version": 3}', '{"relkt": "mining"}', "[]", '{"vers', "\xff"])
def test_a_folder_with_a_foreign_manifest_is_never_touched(run, tmp_path, manifest, overwrite):
    work = tmp_path / "o.jsonl.work"
    (work / "photos").mkdir(parents=True)
    (work / "photos" / "a").write_text("mine")
    (work / "mined-000000.npz").write_text("foreign too")
    (work / "manifest.json").write_text(manifest, encoding="latin-1")
    before = contents(tmp_path)
    result = run("pairs.jsonl", "--output", "o.jsonl", *(["--overwrite"] if overwrite else []))
    assert result.exit_code == 2, result.output
    wanted = "not a manifest written by relkt" if manifest[-1] in "}]" else "expected JSON, got an error"
    assert f"error: --output: o.jsonl.work/manifest.json: {wanted}" in result.stderr
    assert "move o.jsonl.work away" in result.stderr
    assert contents(tmp_path) == before


def test_an_output_that_cannot_be_finished(run, tmp_path, monkeypatch):
    def full(file, *_, **__):
        file.write(b"half")
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


def test_foreign_files_next_to_the_output_are_kept(run, tmp_path):
    for name, message in {
        "o.jsonl.work.lock": "o.jsonl.work.lock: expected a lock file of relkt, got a file with other content",
        "o.jsonl.work.partial": "--output: expected no file o.jsonl.work.partial",
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


def test_an_error_about_an_unwritable_place_names_the_output(run, tmp_path, monkeypatch):
    (tmp_path / "o.jsonl.work.lock").mkdir()
    result = run("pairs.jsonl", "--output", "o.jsonl")
    assert result.exit_code == 2, result.output
    assert "error: --output: expected a writable place, got o.jsonl.work.lock: Is a dir" in result.stderr
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)
    result = run("pairs.jsonl", "--output", "other.jsonl")
    assert result.exit_code == 2, result.output
    assert "error: --output: expected a writable place, got other.jsonl" in result.stderr


@pytest.mark.usefixtures("small_parts")
def test_symbolic_links_are_followed(run, tmp_path):
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
