"""Atomic files and folders: complete content under a path at any moment, whatever fails."""

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from relkt.storage import atomic, atomic_file, atomic_folder, atomic_write, is_temporary, remove_temporaries


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("content", "expected"), [("Grüße\n", "Grüße\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_a_text_or_bytes_are_written(tmp_path: Path, content: str | bytes, expected: bytes) -> None:
    atomic_write(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == expected
    assert names(tmp_path) == ["file"]


def test_the_old_content_is_visible_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_failed_flush_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=r"\.file\.\d+-0\.tmp: disk full"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_fewer_bytes_on_disk_than_written_are_an_error(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"abc")
            file.flush()
            os.truncate(file.name, 1)

    with pytest.raises(OSError, match="expected 3 bytes on the disk, got 1: ") as caught:
        write()
    assert caught.value.errno == errno.EIO
    assert names(tmp_path) == []


class CustomError(OSError):
    """An OSError of another type."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("bad"), r"\.file\.\d+-0\.tmp: bad$"),
        (OSError(errno.ENOSPC, "full"), r"full: '.*\.file\.\d+-0\.tmp'$"),
        (OSError(errno.ENOENT, "gone", "source"), r"gone: 'source'$"),
        (CustomError("kept"), r"^kept$"),
    ],
)
def test_errors_name_the_temporary_file(tmp_path: Path, error: OSError, message: str) -> None:
    with pytest.raises(type(error), match=message), atomic_file(tmp_path / "file"):
        raise error


def test_permissions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    atomic_write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "target")
    atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_text() == "new"
    assert names(tmp_path / "folder") == ["target"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="path: expected a file, got the folder"):
        atomic_write(tmp_path, "new")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such devices")
def test_devices_and_pipes_are_written_to() -> None:
    atomic_write("/dev/null", "new")
    assert Path("/dev/null").is_char_device()
    script = "from relkt.storage import atomic_write; atomic_write('/dev/stdout', 'to the pipe')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "to the pipe"


def test_a_name_in_use_is_not_overwritten(tmp_path: Path) -> None:
    other = tmp_path / f".file.{os.getpid()}-0.tmp"
    other.write_text("other")
    atomic_write(tmp_path / "file", "new")
    assert other.read_text() == "other"


def test_a_given_temporary_file_is_overwritten(tmp_path: Path) -> None:
    partial = tmp_path / "file.partial"
    partial.symlink_to(tmp_path / "elsewhere")
    with atomic_file(tmp_path / "file", partial=partial) as file:
        file.write(b"new")
        assert partial.is_file()
    assert names(tmp_path) == ["file"]


def test_writers_that_seek_are_complete(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "arrays.npz") as file:
        np.savez(file, rows=np.arange(9))
    with atomic_file(tmp_path / "back") as file:
        file.write(b"..........")
        file.seek(0)
        file.write(b"ab")
    assert np.load(tmp_path / "arrays.npz")["rows"].tolist() == list(range(9))
    assert (tmp_path / "back").read_bytes() == b"ab........"


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "model"
    for text in ("first", "second"):
        with atomic_folder(target) as folder:
            (folder / text).write_text(text)
            assert not (target / text).exists()
        assert names(target) == [text]
        assert names(tmp_path / "runs") == ["model"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("old", [None, "old"])
def test_an_error_keeps_the_old_folder(tmp_path: Path, old: str | None) -> None:
    target = tmp_path / "model"
    if old is not None:
        target.mkdir()
        (target / old).touch()

    def write() -> None:
        with atomic_folder(target) as folder:
            (folder / "new").touch()
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write()
    assert names(tmp_path) == ([] if old is None else ["model"])
    assert old is None or names(target) == [old]


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("call", ["mkdir", "rename", "rmtree"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_kill_leaves_the_old_or_the_new_folder(tmp_path: Path, exchange: bool, call: str, nth: int) -> None:
    """Kill the process before its n-th call of a function; then write once more."""
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "old").touch()
    script = textwrap.dedent(f"""
        import os, pathlib, shutil
        from relkt.storage import atomic
        if not {exchange}:
            atomic._exchange = lambda *_: False
        owner = shutil if {call!r} == "rmtree" else pathlib.Path
        real, calls = getattr(owner, {call!r}), []
        def counted(*args, **kwargs):
            calls.append(args)
            if len(calls) == {nth}:
                os._exit(9)
            return real(*args, **kwargs)
        setattr(owner, {call!r}, counted)
        with atomic.atomic_folder({str(target)!r}) as folder:
            (folder / "new").touch()
    """)
    subprocess.run([sys.executable, "-c", script], check=False)
    if exchange and atomic._exchange(tmp_path / "missing", tmp_path / "missing") is False and sys.platform == "linux":
        assert target.exists()
    remove_temporaries(target)
    assert names(target) in (["old"], ["new"])
    with atomic_folder(target) as folder:
        (folder / "newest").touch()
    assert names(target) == ["newest"]
    assert names(tmp_path) == ["model"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with (
        pytest.raises(NotADirectoryError, match="path: expected a folder, got the file"),
        atomic_folder(tmp_path / "model"),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names in one step")
def test_linux_exchanges_two_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was {name}").touch()
    if not atomic._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("the file system cannot exchange names")
    assert names(tmp_path / "a") == ["was b"]
    assert names(tmp_path / "b") == ["was a"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (".run.json.12-0.tmp", "run.json"),
        (".model.12-0.old", "model"),
        ("run.json.partial", "run.json"),
        ("run.json", None),
        (".partial", None),
        (".run.json.tmp", None),
        ("run.json.12-0.tmp", None),
    ],
)
def test_names_of_temporary_files(name: str, target: str | None) -> None:
    assert is_temporary(name) == target


def test_only_temporaries_of_one_path_are_removed(tmp_path: Path) -> None:
    kept = [".other.1-0.tmp", ".file.tmp", "file.partial", "file", ".file.1-0.tmp.txt"]
    for name in [*kept, ".file.1-0.tmp", ".file.99-3.tmp"]:
        (tmp_path / name).touch()
    (tmp_path / ".file.2-0.tmp").mkdir()
    remove_temporaries(tmp_path / "file")
    assert names(tmp_path) == sorted(kept)
