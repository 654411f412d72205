"""One process at a time for each folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from relkt.storage import FolderError, LockedError, locked


def test_a_second_lock_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "work"),
        pytest.raises(LockedError, match=r"another run is using .*work; wait"),
        locked(tmp_path / "work"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_process_is_refused(tmp_path: Path) -> None:
    work = str(tmp_path / "work")
    script = f"from pathlib import Path; from relkt.storage import locked; locked(Path({work!r})).__enter__()"
    with locked(tmp_path / "work"):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "LockedError: another run is using" in done.stderr
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_lock_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "work.lock").write_text("made by relkt\n")
    with locked(tmp_path / "work"):
        assert (tmp_path / "work.lock").exists()
    assert not (tmp_path / "work.lock").exists()


def test_an_empty_file_serves_as_a_lock_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "work.lock").touch()
    with locked(tmp_path / "work"):
        pass
    assert (tmp_path / "work.lock").read_bytes() == b""


def test_a_file_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "work.lock").write_text("notes")
    with pytest.raises(FolderError, match="expected a lock file of relkt"), locked(tmp_path / "work"):
        pass
    assert (tmp_path / "work.lock").read_text() == "notes"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"output: expected a writable place, got .*missing"),
        locked(tmp_path / "missing" / "work"),
    ):
        pass
