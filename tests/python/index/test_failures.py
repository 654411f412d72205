"""Failures of the system while a file is written: permissions, a full disk, a kill."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import relkt

from .cases import (
    GOOD,
    names,
    run,
)


@contextlib.contextmanager
def without_privileges():
    """Run as an unprivileged user, since root may read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this system has other permissions")
def test_no_permission():
    with tempfile.TemporaryDirectory() as name:  # Other users cannot read pytest's folders.
        folder = Path(name)
        folder.chmod(0o777)
        index = relkt.Index(GOOD)
        index.save(folder / "index.relkt")
        (folder / "index.relkt").chmod(0)
        with without_privileges(), pytest.raises(PermissionError) as refused:
            relkt.Index.open(folder / "index.relkt")
        assert refused.value.filename == str(folder / "index.relkt")
        folder.chmod(0o555)
        with without_privileges():
            for write in (index.save, lambda path: relkt.Index.build(path, [GOOD], rows=40)):
                with pytest.raises(PermissionError) as refused:
                    write(folder / "new.relkt")
                assert refused.value.filename == str(folder / "new.relkt")
        folder.chmod(0o755)
        assert names(folder) == ["index.relkt"]
    assert index.path == folder / "index.relkt"  # A failed save does not change the path.


def test_folders_that_are_missing_or_in_the_way(tmp_path):
    index = relkt.Index(GOOD)
    (tmp_path / "file").write_text("a file")
    for write in (index.save, lambda path: relkt.Index.build(path, [GOOD], rows=40)):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "missing" / "index.relkt")
        with pytest.raises(NotADirectoryError):
            write(tmp_path / "file" / "index.relkt")
        with pytest.raises(OSError, match=r"(?i)is a directory"):
            write(tmp_path)
    assert index.path is None
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on the size of files")
@pytest.mark.parametrize("way", ["save", "build"])
def test_a_full_disk(tmp_path, way):
    path = tmp_path / "index.relkt"
    relkt.Index(GOOD, ids=range(40)).save(path)
    before = path.read_bytes()
    out = run(
        """
        import os, resource, signal, sys
        import numpy as np, relkt
        path, way = sys.argv[1:]
        rows = np.random.default_rng(0).standard_normal((20_000, 64), dtype=np.float32)
        index = relkt.Index(rows)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (0, 100, 1 << 12, 1 << 20, 5 << 20):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                if way == "save":
                    index.save(path)
                else:
                    relkt.Index.build(path, (rows[start : start + 999] for start in range(0, 20_000, 999)), rows=20_000)
            except OSError as error:
                print(error.errno, error.filename == path, index.path, os.listdir(os.path.dirname(path)))
        """,
        path,
        way,
    )
    assert out == f"{errno.EFBIG} True None ['index.relkt']\n" * 5
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_while_saving(tmp_path):
    # Two indexes are saved in turn to the same file, and a third is built at a path without a file.
    path, fresh = tmp_path / "index.relkt", tmp_path / "fresh.relkt"
    script = textwrap.dedent("""
        import os, sys, numpy as np, relkt
        path, fresh = sys.argv[1:]
        rows = np.random.default_rng(0).standard_normal((20_000, 100), dtype=np.float32)
        indexes = [relkt.Index(rows[:size], ids=range(size), threads=1) for size in (19_000, 20_000)]
        print("saving", flush=True)
        while True:
            for index in indexes:
                index.save(path)
            if os.path.exists(fresh):
                os.unlink(fresh)
            relkt.Index.build(fresh, (rows[start : start + 2000] for start in range(0, 20_000, 2000)), rows=20_000)
    """)
    rows = np.random.default_rng(0).standard_normal((20_000, 100), dtype=np.float32)
    relkt.Index(rows[:19_000], ids=range(19_000)).save(path)
    interrupted = 0
    # At least eight kills, and more until one happens during a write.
    for kills, delay in enumerate(np.tile(np.linspace(0, 0.3, 8), 5), start=1):
        process = subprocess.Popen([sys.executable, "-c", script, path, fresh], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "saving\n"
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        found = relkt.Index.open(path, verify=True)
        assert len(found) in (19_000, 20_000)
        assert np.array_equal(found.embeddings([0, 18_999]), rows[[0, 18_999]])
        assert found.ids[-1] == len(found) - 1
        if fresh.exists():
            assert len(relkt.Index.open(fresh, verify=True)) == 20_000
        # A kill leaves the hidden temporary file, which is harmless.
        left = [file for file in tmp_path.iterdir() if file not in (path, fresh)]
        assert all(file.name.startswith(".") and file.name.endswith(".tmp") for file in left)
        interrupted += len(left)
        for file in left:
            file.unlink()
        if kills >= 8 and interrupted:
            break
    assert interrupted, "no kill came while a file was written"
