"""Missing libraries, and memory use in batches."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from format_cases import normal

import relkt
from relkt import formats
from relkt.formats.batches import index_of


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [
        ("faiss", "faiss-cpu", lambda index: formats.to_faiss(index)),
        ("faiss", "faiss-cpu", lambda _: formats.from_faiss("missing")),
        ("pyarrow", "pyarrow", lambda index: formats.to_arrow(index)),
        ("pyarrow", "pyarrow", lambda _: formats.from_arrow(None)),
        ("pyarrow.parquet", "pyarrow", lambda index: formats.to_parquet(index, "missing/file")),
        ("pyarrow.parquet", "pyarrow", lambda _: formats.from_parquet("missing")),
    ],
)
def test_a_missing_library_is_named(monkeypatch, module, package, call):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"{module} is needed .*: pip install {package}$"):
        call(relkt.Index(normal(1)))


def test_importing_formats_loads_no_library():
    script = "import sys, relkt.formats; print({'faiss', 'pyarrow', 'datasets', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


def test_fewer_rows_than_announced_are_refused():
    with pytest.raises(ValueError, match="expected 11 rows, as announced, got 10"):
        index_of(iter([normal(1, 10)]), 11, None, None, None)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory in use from /proc")
def test_files_larger_than_memory(tmp_path):
    # Round trip of 64 MiB of rows from file to file, with a limit of 32 MiB on additional memory.
    script = textwrap.dedent(f"""
        import os, resource, sys
        import numpy as np, pyarrow.parquet, relkt
        from relkt import formats
        folder, rows, dim = {str(tmp_path)!r}, 1 << 16, 256
        formats.batches.BATCH_BYTES = 1 << 20

        def round_trip(name, rows):
            path = os.path.join(folder, name)
            batches = (batch(start) for start in range(0, rows, 4096))
            index = relkt.Index.build(path + ".relkt", batches, rows=rows, threads=1)
            formats.to_npy(index, path + ".npy")
            formats.to_parquet(index, path + ".parquet")
            from_npy = formats.from_npy(path + ".npy", output=path + ".a", threads=1)
            from_parquet = formats.from_parquet(path + ".parquet", output=path + ".b", threads=1)
            return index, from_npy, from_parquet

        def batch(start):
            return np.random.default_rng(start).standard_normal((4096, dim), dtype=np.float32)

        round_trip("small", 4096)  # starts threads, and fills the caches of allocators
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = int(status["VmData"].split()[0]) * 1024 + (32 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            np.ones(rows * dim, dtype=np.float32)
        except MemoryError:
            print("limited")
        indexes = round_trip("large", rows)
        for start in (0, rows - 4096):
            for index in indexes:
                assert np.array_equal(index.embeddings(np.arange(start, start + 4096)), batch(start))
        print("done")
    """)
    environment = {
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "1",  # a thread that starts late would reserve another arena
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": ":".join(sys.path),
    }
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert run.stdout == "limited\ndone\n", run.stderr
