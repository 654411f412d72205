"""The work folder: manifests, and full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from relkt.mining_files import WorkFolderError
from relkt.mining_files.work_folder import WorkFolder


def test_an_error_lists_the_differences_of_manifests(tmp_path):
    folder = WorkFolder(tmp_path / "o.jsonl")
    assert folder.open({"a": {"b": 1}, "c": "x" * 99, "old": 1}, overwrite=False) is False
    assert folder.open({"a": {"b": 1}, "c": "x" * 99, "old": 1}, overwrite=False) is True
    with pytest.raises(WorkFolderError) as error:
        folder.open({"a": {"b": 2}, "c": "y" * 99, "new": 1}, overwrite=False)
    assert "a.b was 1, is now 2; c differs; old was 1, is now not set; new was not set, is now 1;" in str(error.value)
    (folder.path / "manifest.json").write_text("[]")
    with pytest.raises(WorkFolderError, match="not a manifest written by relkt"):
        folder.open({}, overwrite=False)


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


def test_a_full_disk_leaves_no_truncated_part(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=write_on_a_full_disk, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_truncated_file_does_not_get_its_name(tmp_path):
    def cut(file):
        file.write(b"abc")
        file.flush()
        os.ftruncate(file.fileno(), 1)

    work = WorkFolder(tmp_path / "o.jsonl")
    work.open({}, overwrite=False)
    with pytest.raises(OSError, match=r"expected 3 bytes on the disk, got 1: .*o\.jsonl\.work/x\.partial"):
        work.write("x", cut)
    assert [path.name for path in work.path.iterdir()] == ["manifest.json"]
