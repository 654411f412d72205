"""Imports and exports of all formats: bit for bit, in batches, and atomic."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from format_cases import DIM, FLOATS, IDS, ROWS, assert_holds, bits, names, normal, table

import relkt
from relkt import formats

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

# Each import as a function of rows and ids.


def through_npy(folder, rows, ids, output):
    np.save(folder / "source", rows)
    return formats.from_npy(folder / "source.npy", ids=ids, output=output)


def through_arrow(folder, rows, ids, output):
    assert folder.is_dir()
    id_column = None if ids is None else "id"
    return formats.from_arrow(table(rows, ids), id_column=id_column, output=output)


def through_parquet(folder, rows, ids, output):
    pq.write_table(table(rows, ids), folder / "source", row_group_size=50)
    return formats.from_parquet(folder / "source", id_column=None if ids is None else "id", output=output)


def through_faiss(folder, rows, ids, output):
    faiss = pytest.importorskip("faiss")
    assert folder.is_dir()
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    return formats.from_faiss(flat, ids=ids, output=output, check_norms=False)


IMPORTS = [through_npy, through_arrow, through_parquet, through_faiss]


@pytest.mark.parametrize("output", [None, "index.relkt"])
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("through", IMPORTS)
def test_imports_keep_all_bits(tmp_path, through, dtype, ids, output):
    if through is through_faiss and dtype == np.float16:
        pytest.skip("faiss keeps float32 only")
    rows = normal(1, dtype=dtype)
    index = through(tmp_path, rows, IDS[ids], None if output is None else tmp_path / output)
    assert_holds(index, rows, IDS[ids])
    if output is None:
        assert index.path is None
    else:
        assert index.path == tmp_path / output
        assert_holds(relkt.Index.open(tmp_path / output, verify=True), rows, IDS[ids])
    assert set(names(tmp_path)) <= {"source", "source.npy", "index.relkt"}


@pytest.mark.parametrize("through", IMPORTS)
def test_a_failed_import_keeps_the_old_file(tmp_path, through):
    rows = normal(1)
    rows[-1, 3] = np.nan  # Found in the last batch, after all others are written.
    output = tmp_path / "index.relkt"
    relkt.Index(normal(2)).save(output)
    before = output.read_bytes()
    for target in (output, None):
        with pytest.raises(ValueError, match=r"expected finite values, got .* column 3"):
            through(tmp_path, rows, None, target)
    with pytest.raises(ValueError, match="ids: expected each id once, got 7 for the passages 7 and 8"):
        through(tmp_path, normal(1), [*range(8), *range(7, ROWS - 1)], output)
    assert output.read_bytes() == before
    output.unlink()
    with pytest.raises(ValueError, match="finite"):
        through(tmp_path, rows, None, output)
    assert set(names(tmp_path)) <= {"source", "source.npy"}
    with pytest.raises(FileNotFoundError):
        through(tmp_path, normal(1), None, tmp_path / "missing" / "index.relkt")


def test_one_row_and_wide_rows(tmp_path):
    # A batch has at least one row, however wide.
    for rows in (normal(1, 1, 3), normal(1, 3, 500), normal(1, 10, DIM), normal(1, 11, DIM)):
        for through in IMPORTS:
            assert_holds(through(tmp_path, rows, None, tmp_path / "index.relkt"), rows)
            assert_holds(through(tmp_path, rows, None, None), rows)


def test_files_of_other_formats_are_refused(tmp_path):
    faiss = pytest.importorskip("faiss")
    file = tmp_path / "file"
    np.savez(tmp_path / "archive.npz", a=normal(1), b=normal(2))
    with pytest.raises(TypeError, match=r"path: expected a .npy file of one array, got an archive of arrays"):
        formats.from_npy(tmp_path / "archive.npz")
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"path: expected a .npy file, got '.*objects.npy'"):
        formats.from_npy(tmp_path / "objects.npy")
    np.save(tmp_path / "whole.npy", normal(1))
    cut = (tmp_path / "whole.npy").read_bytes()[:-1]
    flat = faiss.IndexFlatIP(DIM)
    flat.add(normal(1))
    faiss.write_index(flat, str(tmp_path / "flat"))
    for content in (b"", b"some other file, of more than a few bytes", cut, (tmp_path / "flat").read_bytes()[:-1]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"path: expected a .npy file, got '.*file'"):
            formats.from_npy(file)
        with pytest.raises(ValueError, match=r"path: expected a Parquet file, got '.*file'"):
            formats.from_parquet(file)
        with pytest.raises(ValueError, match=r"index: expected a file of a faiss index, got '.*file'"):
            formats.from_faiss(file)
    for read in (formats.from_npy, formats.from_parquet, formats.from_faiss):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


def export_npy(index, path):
    formats.to_npy(index, path)
    return np.load(path), None


def export_parquet(index, path):
    formats.to_parquet(index, path)
    return read_back(pq.read_table(path))


def export_arrow(index, path):
    assert not path.exists()
    return read_back(formats.to_arrow(index))


def read_back(found):
    column = found.column("embedding").combine_chunks()
    assert pa.types.is_fixed_size_list(column.type)
    rows = column.flatten().to_numpy().reshape(len(column), -1)
    return rows, found.column("id").to_pylist() if "id" in found.column_names else None


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("export", [export_npy, export_parquet, export_arrow])
@pytest.mark.parametrize("opened", [False, True])
def test_exports_keep_all_bits(tmp_path, export, dtype, ids, opened):
    rows = normal(1, dtype=dtype)
    index = relkt.Index(rows, ids=IDS[ids])
    if opened:
        index.save(tmp_path / "index.relkt")
        index = relkt.Index.open(tmp_path / "index.relkt")
    found, found_ids = export(index, tmp_path / "exported")
    assert found.dtype == dtype
    assert np.array_equal(bits(found), bits(rows))
    if export is not export_npy:
        assert found_ids == IDS[ids]
    assert set(names(tmp_path)) <= {"exported", "index.relkt"}


def test_exports_are_written_in_batches(tmp_path):
    index = relkt.Index(normal(1))
    formats.to_parquet(index, tmp_path / "rows.parquet")
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 16
    assert formats.to_arrow(index).column("embedding").num_chunks == 16


@pytest.mark.parametrize("export", [formats.to_npy, formats.to_parquet])
def test_a_failed_export_keeps_the_old_file(tmp_path, monkeypatch, export):
    index, path = relkt.Index(normal(1), ids=IDS["strings"]), tmp_path / "exported"
    export(index, path)
    before = path.read_bytes()
    embeddings, asked = relkt.Index.embeddings, []

    def failing(self, rows):
        asked.append(rows)
        if rows[0] == 150:
            raise KeyboardInterrupt
        return embeddings(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(relkt.Index, "embeddings", failing)
        with pytest.raises(KeyboardInterrupt):
            export(index, path)
    assert len(asked) == 16
    assert path.read_bytes() == before
    assert names(tmp_path) == ["exported"]
    # An export replaces a file. It replaces no folder and creates no missing folder.
    other = relkt.Index(normal(2))
    export(other, path)
    assert path.read_bytes() != before
    with pytest.raises(IsADirectoryError):
        export(index, tmp_path)
    with pytest.raises(FileNotFoundError):
        export(index, tmp_path / "missing" / "file")
    assert names(tmp_path) == ["exported"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on the size of files")
@pytest.mark.parametrize("export", ["to_npy", "to_parquet"])
def test_an_export_to_a_full_disk(tmp_path, export):
    path = tmp_path / "exported"
    path.write_text("old content")
    script = textwrap.dedent(f"""
        import resource, signal
        import numpy as np, relkt
        from relkt import formats
        import pyarrow.parquet
        index = relkt.Index(np.random.default_rng(0).standard_normal((20_000, 64), dtype=np.float32))
        formats.batches.BATCH_BYTES = 1 << 18
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            formats.{export}(index, {str(path)!r})
        except OSError as error:
            print(error)
    """)
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "File too large" in out
    assert path.read_text() == "old content"
    assert names(tmp_path) == ["exported"]
