"""Index files: what is saved comes back, damage is told, and whatever goes wrong, what was there before stays."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import relkt

FLOATS = [np.float32, np.float16]
IDS = {
    "none": lambda _: None,
    "integers": lambda n: np.arange(n) * 3 - 7,
    "strings": lambda n: [f"ü{i}" for i in range(n)],
}


def normal(seed, rows, dim, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def bits(array):
    return array.view(np.uint16 if array.dtype == np.float16 else np.uint32)


def assert_same_index(index, expected):
    assert np.array_equal(bits(index.embeddings()), bits(expected.embeddings()))
    assert (index.dtype, index.has_ids) == (expected.dtype, expected.has_ids)
    assert index.ids.tolist() == expected.ids.tolist()
    for queries, k in ((1, 1), (5, len(expected)), (40, min(10, len(expected)))):
        q = normal(queries, queries, expected.dim)
        hits, wanted = index.search(q, k, threads=1), expected.search(q, k, threads=1)
        assert np.array_equal(hits.indices, wanted.indices)
        assert np.array_equal(bits(hits.scores), bits(wanted.scores))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def sections(path):
    """Where in the file each section starts and ends, and the metadata, read without relkt."""
    content = path.read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])
    metadata = header.pop("__metadata__")
    return {name: tuple(data + at for at in info["data_offsets"]) for name, info in header.items()}, metadata


def run(script, *arguments, **options):
    """What a process of its own prints."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, **options).stdout


# Round trips


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (17, 3), (1000, 70)])
def test_what_is_saved_comes_back(tmp_path, rows, dim, dtype, ids):
    stored = normal(0, rows, dim, dtype)
    stored[stored == 0] = 1
    stored[0, 0] = np.finfo(dtype).smallest_subnormal  # Every bit counts.
    path = tmp_path / "index.relkt"
    index = relkt.Index(stored, ids=IDS[ids](rows))
    index.save(path, texts="päth to/texts.jsonl")
    for verify in (False, True):
        opened = relkt.Index.open(path, verify=verify)
        assert_same_index(opened, index)
        assert (opened.path, opened.texts) == (path, "päth to/texts.jsonl")
    # The same index makes the same file: saved again, saved from the file, and written as one batch (what codes are
    # relative to is decided by the first).
    content = path.read_bytes()
    for again in (index, relkt.Index.open(path)):
        again.save(path)
        assert path.read_bytes() == content
    for size in {1, 7, 16, rows}:
        batches = (stored[start : start + size] for start in range(0, rows, size))
        built = relkt.Index.build(tmp_path / "b", batches, rows=rows, ids=IDS[ids](rows), texts="päth to/texts.jsonl")
        assert size < rows or (tmp_path / "b").read_bytes() == content
        assert_same_index(built, index)
    assert names(tmp_path) == ["b", "index.relkt"]


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_any_reader_of_safetensors_opens_it(tmp_path, dtype, ids):
    stored, path = normal(0, 123, 18, dtype), tmp_path / "index.safetensors"
    relkt.Index(stored, ids=IDS[ids](123)).save(path, texts="t.jsonl")
    tensors = safetensors.numpy.load_file(path)
    assert tensors["rows"].dtype == dtype
    assert np.array_equal(bits(tensors["rows"]), bits(stored))
    if ids == "integers":
        assert np.array_equal(tensors["ids"], IDS[ids](123))
    if ids == "strings":
        texts = tensors["id_texts"].tobytes()
        starts = [0, *tensors["id_ends"][:-1]]
        found = [texts[start:end].decode() for start, end in zip(starts, tensors["id_ends"], strict=True)]
        assert found == IDS[ids](123)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert np.array_equal(file.get_slice("rows")[50:60], stored[50:60])
        metadata = file.metadata()
    assert (metadata["format"], metadata["rows"], metadata["dim"]) == ("relkt", "123", "18")
    assert metadata["user.texts"] == "t.jsonl"
    # What a search streams through is aligned for it.
    assert all(start % 64 == 0 for name, (start, _) in sections(path)[0].items() if name in ("codes", "rows"))


def test_a_changed_index_is_saved_as_it_is(tmp_path):
    path = tmp_path / "index.relkt"
    rows = normal(0, 100, 9)
    index = relkt.Index(rows[:60], ids=range(60))
    index.save(path, texts="old")
    index = relkt.Index.open(path)
    index.add(rows[60:], ids=range(60, 100))
    index.remove(range(10, 30))
    assert_same_index(relkt.Index.open(path), relkt.Index(rows[:60], ids=range(60)))
    index.save(path)
    kept = np.delete(np.arange(100), np.arange(10, 30))
    relkt.Index(rows[kept], ids=kept).save(tmp_path / "fresh", texts="old")
    assert path.read_bytes() == (tmp_path / "fresh").read_bytes()
    index.save(path, texts="new")
    assert relkt.Index.open(path).texts == "new"


def test_the_file_that_is_open_can_be_replaced(tmp_path):
    path = tmp_path / "index.relkt"
    first, second = relkt.Index(normal(0, 3000, 20)), relkt.Index(normal(1, 50, 6), ids=range(50))
    first.save(path)
    opened = relkt.Index.open(path)
    opened.save(path)  # From and to the same file.
    assert_same_index(opened, first)
    second.save(path)
    assert_same_index(opened, first)  # It still maps what it opened.
    assert_same_index(relkt.Index.open(path, verify=True), second)
    path.unlink()
    if os.name == "posix":
        assert_same_index(opened, first)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["näme with spaces", "no-extension", ".hidden", "x" * 200])
def test_names_of_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    index = relkt.Index(normal(0, 5, 3))
    for path in (name, Path(name), tmp_path / name):
        index.save(path)
        assert_same_index(relkt.Index.open(path), index)
    assert names(tmp_path) == [name]


@pytest.mark.skipif(not hasattr(os, "umask"), reason="this system has no umask")
def test_who_may_read_it(tmp_path):
    before = os.umask(0o027)
    try:
        relkt.Index(normal(0, 5, 3)).save(tmp_path / "index.relkt")
    finally:
        os.umask(before)
    assert (tmp_path / "index.relkt").stat().st_mode & 0o777 == 0o640


def test_many_threads_open_search_and_save(tmp_path):
    path = tmp_path / "index.relkt"
    versions = [relkt.Index(normal(seed, 400 + seed, 16)) for seed in range(3)]
    versions[0].save(path)
    by_size = {len(version): version for version in versions}
    errors = []

    def work(version):
        try:
            for _ in range(15):
                version.save(path)
                opened = relkt.Index.open(path, verify=True)
                assert_same_index(opened, by_size[len(opened)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["index.relkt"]


# Batches that do not fit


def breaking(error):
    yield normal(0, 30, 8)
    raise error


GOOD = normal(0, 40, 8)
BAD = GOOD.copy()
BAD[35, 2] = np.nan


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (lambda: [GOOD], ValueError, "expected 100 rows as announced, got 40"),
        (lambda: [GOOD, GOOD, GOOD], ValueError, "expected 100 rows as announced, got 120"),
        (lambda: [GOOD, GOOD[:, :7], GOOD], ValueError, "expected dimension 8 .*, got 7"),
        (
            lambda: [GOOD, GOOD.astype(np.float16)],
            ValueError,
            "expected dtype float32 like the first, got float16 in 1",
        ),
        (
            lambda: [GOOD.astype(np.float16), GOOD],
            ValueError,
            "expected dtype float16 like the first, got float32 in 1",
        ),
        (
            lambda: [GOOD, GOOD.astype(np.float64)],
            TypeError,
            "batches: batch 1: expected dtype float32 or float16, got",
        ),
        (
            lambda: [GOOD, GOOD[0]],
            TypeError,
            r"batches: batch 1: expected 2 dimensions \(rows, columns\), got shape \(8,\)",
        ),
        (lambda: [GOOD, GOOD.tolist()], TypeError, "batches: batch 1: expected a 2-D NumPy array .*, got list"),
        (lambda: [GOOD, BAD], ValueError, "expected finite values, got NaN at row 75, column 2"),
        (lambda: [GOOD, GOOD, GOOD * 0], ValueError, "row 80 is all zeros"),
        (list, ValueError, "batches: expected at least one"),
        (lambda: [GOOD[:0]], ValueError, "expected 100 rows as announced, got 0"),
        (lambda: [GOOD[:, :0]], ValueError, "expected at least one row and one column"),
        (lambda: breaking(RuntimeError("no more rows")), RuntimeError, "no more rows"),
        (lambda: breaking(KeyboardInterrupt()), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_failed_build_leaves_what_was_there(tmp_path, batches, error, message, there):
    path = tmp_path / "index.relkt"
    if there:
        relkt.Index(GOOD).save(path)
        before = path.read_bytes()
    with pytest.raises(error, match=message):
        relkt.Index.build(path, batches(), rows=100)
    assert names(tmp_path) == (["index.relkt"] if there else [])
    assert not there or path.read_bytes() == before


def test_what_build_is_told(tmp_path):
    path = tmp_path / "index.relkt"
    for rows, error in ((0, ValueError), (-1, ValueError), (40.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="rows: expected an integer of at least 1"):
            relkt.Index.build(path, [GOOD], rows=rows)
    with pytest.raises(ValueError, match="ids: expected 40 values, one for each passage, got 3"):
        relkt.Index.build(path, [GOOD], rows=40, ids=range(3))
    with pytest.raises(ValueError, match="threads: "):
        relkt.Index.build(path, [GOOD], rows=40, threads=0)
    assert names(tmp_path) == []
    # Batches without rows are nothing.
    index = relkt.Index.build(path, [GOOD[:0], GOOD[:3], GOOD[:0], GOOD[3:]], rows=40)
    assert_same_index(index, relkt.Index(GOOD))
    assert index.path == path


# Damage


@pytest.fixture(params=[("none", np.float32), ("strings", np.float16), ("integers", np.float32)], ids=lambda p: p[0])
def saved(request, tmp_path):
    """A file of some forty KiB."""
    ids, dtype = request.param
    path = tmp_path / "index.relkt"
    relkt.Index(normal(0, 333, 30, dtype), ids=IDS[ids](333)).save(path, texts="texts.jsonl")
    return path


def test_a_file_that_was_cut_short(saved):
    content = saved.read_bytes()
    for length in {*range(0, len(content), 4096), 7, 8, 9, 100, len(content) - 1}:
        saved.write_bytes(content[:length])
        with pytest.raises(relkt.IndexFileError, match=r"cut short|too few for any index") as refused:
            relkt.Index.open(saved)
        assert str(refused.value).startswith(f"{saved}: ")
    saved.write_bytes(content + b"\0")
    with pytest.raises(relkt.IndexFileError, match="its header and its size do not fit together"):
        relkt.Index.open(saved)
    saved.write_bytes(content)
    relkt.Index.open(saved, verify=True)


def test_a_bit_that_was_flipped_in_a_section(saved):
    content, (found, _) = saved.read_bytes(), sections(saved)
    assert {"codes", "scales", "errors", "norms", "rows"} <= set(found)
    assert max(end for _, end in found.values()) == len(content)
    for name, (start, end) in found.items():
        assert end > start
        for at in {start, (start + end) // 2, end - 1}:
            for bit in (0, 7):
                damaged = bytearray(content)
                damaged[at] ^= 1 << bit
                saved.write_bytes(damaged)
                told = f'the section "{name}" was altered: its checksum differs'
                if name.startswith("id_") or name in ("scales", "errors", "mean"):
                    # Texts that are no longer UTF-8, ends out of order, numbers where there is no row, or none at all.
                    told += "|its sections do not fit its shape"
                with pytest.raises(relkt.IndexFileError, match=told):
                    relkt.Index.open(saved, verify=True)
                if name == "rows":
                    relkt.Index.open(saved)  # Only checked if asked for: it would read everything.
    saved.write_bytes(content)
    relkt.Index.open(saved, verify=True)


def test_a_bit_that_was_flipped_in_the_header(saved):
    content = saved.read_bytes()
    end = 8 + len(content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip())
    for at in range(0, end, 3):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        saved.write_bytes(damaged)
        with pytest.raises(relkt.IndexFileError):
            relkt.Index.open(saved)


def test_a_newer_version(saved):
    content, (_, metadata) = saved.read_bytes(), sections(saved)
    old, new = f'"version":"{metadata["version"]}"'.encode(), b'"version":"9"'
    assert content.count(old) == 1
    assert len(old) == len(new)
    saved.write_bytes(content.replace(old, new))
    newest = metadata["version"]
    with pytest.raises(
        relkt.IndexFileError, match=f"its format has version 9, newer than {newest}, the newest known here"
    ):
        relkt.Index.open(saved)


def test_files_that_are_not_ours(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(relkt.IndexFileError, match="it has 0 bytes, too few for any index"):
        relkt.Index.open(path)
    for content in (b"a text of more than eight bytes", bytes(4096), np.random.default_rng(0).bytes(100_000)):
        path.write_bytes(content)
        for verify in (False, True):
            with pytest.raises(relkt.IndexFileError, match=r"no index file|not an index written by relkt"):
                relkt.Index.open(path, verify=verify)
    for metadata in (None, {"format": "pt"}, {"format": "np", "version": "1"}):
        safetensors.numpy.save_file({"rows": GOOD, "codes": GOOD}, path, metadata=metadata)
        with pytest.raises(relkt.IndexFileError, match="it is a safetensors file, but not an index written by relkt"):
            relkt.Index.open(path)
    with pytest.raises(relkt.IndexFileError, match="it is not a file"):
        relkt.Index.open(tmp_path)
    with pytest.raises(FileNotFoundError) as missing:
        relkt.Index.open(tmp_path / "missing")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, str(tmp_path / "missing"))
    assert issubclass(relkt.IndexFileError, ValueError)
    for nothing in (None, 3):
        with pytest.raises(TypeError):
            relkt.Index.open(nothing)


def test_a_file_of_ours_with_parts_of_another(tmp_path):
    # As a reader of safetensors rewrites it: all there, but the header is not the one whose checksum it names.
    path = tmp_path / "index.relkt"
    relkt.Index(GOOD).save(path)
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors["rows"] = tensors["rows"][:-1]
    safetensors.numpy.save_file(tensors, path, metadata=metadata)
    with pytest.raises(relkt.IndexFileError, match="its header was altered"):
        relkt.Index.open(path)


# Folders and disks that refuse


@contextlib.contextmanager
def without_privileges():
    """As a user who is nobody, since root may read and write everything."""
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
    with tempfile.TemporaryDirectory() as name:  # One of pytest's own lies where nobody may look.
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
    assert index.path == folder / "index.relkt"  # Not the one that could not be written.


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


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_while_saving(tmp_path):
    # Two indexes are saved in turn, over one another, and a third is built where there was none.
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
    # At least eight kills, and more until one came while a file was written.
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
        # A kill leaves the file that was being written, hidden; it is in nobody's way.
        left = [file for file in tmp_path.iterdir() if file not in (path, fresh)]
        assert all(file.name.startswith(".") and file.name.endswith(".tmp") for file in left)
        interrupted += len(left)
        for file in left:
            file.unlink()
        if kills >= 8 and interrupted:
            break
    assert interrupted, "no kill came while a file was written"


# Larger than memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
@pytest.mark.parametrize("dtype", FLOATS)
def test_larger_than_memory(tmp_path, dtype):
    """64 MiB of rows, and 16 MiB of memory beside what is loaded: built, searched, filtered."""
    dim = 256
    size = (64 << 20) // (dim * np.dtype(dtype).itemsize)
    path, found = tmp_path / "index.relkt", tmp_path / "hits.npz"
    run(
        """
        import resource, sys
        import numpy as np, relkt
        path, found, dtype, size, dim = sys.argv[1:4] + list(map(int, sys.argv[4:]))

        def batches(size):
            for start in range(0, size, 1024):
                yield np.random.default_rng(start).standard_normal((1024, dim), dtype=np.float32).astype(dtype)

        queries = np.random.default_rng(7**7).standard_normal((20, dim), dtype=np.float32)
        relkt.Index.build(path, batches(2048), rows=2048, threads=1).search(queries, 100, threads=1)  # As a warm-up.
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = (int(status["VmData"].split()[0]) << 10) + (16 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        index = relkt.Index.build(path, batches(size), rows=size, threads=1)
        allow = np.arange(size) % 7 == 3
        hits = [index.search(queries[:n], k, threads=1) for n, k in ((1, 10), (20, 100))]
        hits.append(index.search(queries, 10, allow=allow, threads=1))
        np.savez(found, *(array for hit in hits for array in hit))
        """,
        path,
        found,
        np.dtype(dtype).name,
        size,
        dim,
    )
    assert path.stat().st_size > 64 << 20

    queries = np.random.default_rng(7**7).standard_normal((20, dim), dtype=np.float32)
    unit = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    scores = np.empty((20, size), dtype=np.float32)
    for start in range(0, size, 1024):
        batch = np.random.default_rng(start).standard_normal((1024, dim), dtype=np.float32)
        batch = batch.astype(dtype).astype(np.float64)
        scores[:, start : start + 1024] = unit @ batch.T / np.linalg.norm(batch, axis=1)
    arrays = list(np.load(found).values())
    allowed = np.where(np.arange(size) % 7 == 3, scores, -np.inf)
    for got_scores, got, reference in (
        (*arrays[0:2], scores[:1]),
        (*arrays[2:4], scores),
        (*arrays[4:6], allowed),
    ):
        order = np.argsort(-reference, axis=1, kind="stable")[:, : got.shape[1]]
        expected = np.take_along_axis(reference, order, axis=1)
        # A float64 sum in another order may round to the neighbouring float32, and swap two that are that close.
        np.testing.assert_array_max_ulp(got_scores, expected, maxulp=1)
        at = got != order
        np.testing.assert_array_max_ulp(np.take_along_axis(reference, got, axis=1)[at], expected[at], maxulp=1)


LIMITED = """
    import resource, sys
    import numpy as np, relkt

    def limit(mib):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        soft = (int(status["VmData"].split()[0]) << 10) + int(mib * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.RLIM_INFINITY))

    def unlimit():
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    rows = np.random.default_rng(0).standard_normal((1 << 14, 256), dtype=np.float32)  # 16 MiB
    queries = rows[:10] + 1

    def state(index):
        hits = index.search(queries, 50, threads=1)
        return len(index), index.ids.tolist(), hits.scores.tobytes(), hits.indices.tobytes()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
@pytest.mark.parametrize("what", ["Index(rows)", "index.add(rows[:9])", "index.remove([5])", "index.embeddings()"])
def test_too_little_memory_for_a_copy(tmp_path, what):
    path = tmp_path / "index.relkt"
    script = """
    relkt.Index(rows).save(sys.argv[1])
    index = relkt.Index.open(sys.argv[1])
    before = state(index)
    what = eval("lambda: " + sys.argv[2], {"index": index, "rows": rows, "Index": relkt.Index})
    limit(8)
    try:
        what()
    except MemoryError as error:
        unlimit()
        assert state(index) == before and str(index.path) == sys.argv[1]
        print(error)
    """
    out = run(textwrap.dedent(LIMITED) + textwrap.dedent(script), path, what)
    assert "could not allocate" in out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="limits memory as Linux counts it")
def test_an_addition_that_memory_ends_anywhere_in(tmp_path):
    # With a little more memory each time, until there is enough.
    script = """
    index = relkt.Index(rows, ids=range(len(rows)))
    before, refused = state(index), 0
    for mib in np.arange(4, 100, 1.5):
        limit(mib)
        try:
            index.add(rows[::-1], ids=range(-len(rows), 0), threads=1)
        except MemoryError:
            unlimit()
            refused += 1
            assert state(index) == before
            continue
        break
    unlimit()
    whole = relkt.Index(np.concatenate([rows, rows[::-1]]), ids=[*range(len(rows)), *range(-len(rows), 0)])
    assert state(index) == state(whole)
    print(refused)
    """
    assert int(run(textwrap.dedent(LIMITED) + textwrap.dedent(script))) > 5
    assert names(tmp_path) == []
