"""Locks on file systems that fail, and while other processes end."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import resource
import signal
from pathlib import Path
from typing import IO

import pytest

from relkt.storage import LockedError, locked


def test_a_lock_file_deleted_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, lock = tmp_path / "o.work", tmp_path / "o.work.lock"
    flock = fcntl.flock
    tries: list[int] = []

    def late(file: IO[bytes], how: int) -> None:
        if not tries:  # the previous run ends between open() and flock()
            lock.unlink()
        tries.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(work):
        assert len(tries) == 2
        assert lock.exists()
        with pytest.raises(LockedError, match="another run is using"), locked(work):
            pass
        assert lock.exists()
    assert not lock.exists()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "o.work"):
        assert list(tmp_path.iterdir()) == [tmp_path / "o.work.lock"]
    assert not list(tmp_path.iterdir())


def lock_on_a_full_disk(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for room in (0, 5):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match=r": .*o\.work\.lock"), locked(folder / "o.work"):
            pass
        assert not list(folder.iterdir())


def test_a_full_disk_leaves_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=lock_on_a_full_disk, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
