"""Imports and exports of an index: bit for bit, batch by batch, and nothing left behind where one fails."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import relkt
from relkt import formats
from relkt.formats.batches import index_of

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
pads = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, DIM = 157, 12
FLOATS = [np.float32, np.float16]
IDS = {
    "none": None,
    "integers": [int(i) for i in np.random.default_rng(5).permutation(ROWS) - 3],
    "strings": [f"id-{i}-é" for i in range(ROWS)],
}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Ten rows of float32 in a batch, so that whatever is tested takes many."""
    monkeypatch.setattr("relkt.formats.batches.BATCH_BYTES", 4 * DIM * 10)


def normal(seed, rows=ROWS, dim=DIM, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def unit(seed, rows=ROWS, dim=DIM):
    rows = normal(seed, rows, dim).astype(np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def bits(array):
    return array.view(np.uint16 if array.dtype == np.float16 else np.uint32)


def assert_holds(index, rows, ids=None):
    """That an index has just these rows, bit for bit, and ids, and searches them as any other does."""
    assert index.dtype == rows.dtype
    assert np.array_equal(bits(index.embeddings()), bits(rows))
    assert index.has_ids == (ids is not None)
    assert index.ids.tolist() == (list(range(len(rows))) if ids is None else list(ids))
    queries = normal(99, 3, rows.shape[1])
    k = min(5, len(rows))
    hits, expected = index.search(queries, k, threads=1), relkt.search(queries, rows, k, threads=1)
    assert np.array_equal(hits.indices, expected.indices)
    assert np.array_equal(bits(hits.scores), bits(expected.scores))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lists(rows, kind=None):
    """Rows as a column of fixed-size lists, or of another type of lists."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return column if kind is None else column.cast(kind)


def table(rows, ids=None, kind=None):
    columns = {"other": pa.array(range(len(rows))), "embedding": lists(rows, kind)}
    return pa.table(columns if ids is None else {**columns, "id": pa.array(ids)})


# Every import as a function of rows and ids: what it makes of them, with `output` or without.


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
def test_imports_keep_every_bit(tmp_path, through, dtype, ids, output):
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
def test_a_failed_import_leaves_what_was_there(tmp_path, through):
    rows = normal(1)
    rows[-1, 3] = np.nan  # Found in the last batch, when all others have been written.
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


# NumPy


@pytest.mark.parametrize("output", [None, "index.relkt"])
def test_npy_in_columns(tmp_path, output):
    rows = normal(1)
    np.save(tmp_path / "rows.npy", np.asfortranarray(rows))
    assert np.load(tmp_path / "rows.npy", mmap_mode="r").flags.f_contiguous
    assert_holds(formats.from_npy(tmp_path / "rows.npy", output=output and tmp_path / output), rows)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (normal(1).astype(np.float64), TypeError, r"path: expected dtype float32 or float16, got float64; .*astype"),
        (normal(1).astype(">f4"), TypeError, "path: expected dtype float32 or float16, got >f4"),
        (normal(1)[0], TypeError, r"path: expected an array of 2 dimensions \(rows, columns\), got shape \(12,\)"),
        (normal(1)[:0], ValueError, "path: expected at least one row, got none"),
        (normal(1)[:, :0], ValueError, r"path|passages"),
    ],
)
def test_npy_of_another_shape_or_type(tmp_path, array, error, message):
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(error, match=message):
        formats.from_npy(tmp_path / "rows.npy", output=tmp_path / "index.relkt")
    with pytest.raises(error, match=message):
        formats.from_npy(tmp_path / "rows.npy")
    assert names(tmp_path) == ["rows.npy"]


def test_files_that_are_none_of_theirs(tmp_path):
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


# Exports


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
def test_exports_keep_every_bit(tmp_path, export, dtype, ids, opened):
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


def test_exports_come_in_batches(tmp_path):
    index = relkt.Index(normal(1))
    formats.to_parquet(index, tmp_path / "rows.parquet")
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 16
    assert formats.to_arrow(index).column("embedding").num_chunks == 16


@pytest.mark.parametrize("export", [formats.to_npy, formats.to_parquet])
def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch, export):
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
    # A new one takes its place; a folder is not replaced, and one that is missing is not made.
    other = relkt.Index(normal(2))
    export(other, path)
    assert path.read_bytes() != before
    with pytest.raises(IsADirectoryError):
        export(index, tmp_path)
    with pytest.raises(FileNotFoundError):
        export(index, tmp_path / "missing" / "file")
    assert names(tmp_path) == ["exported"]


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on the size of files")
@pytest.mark.parametrize("export", ["to_npy", "to_parquet"])
def test_an_export_to_a_full_disk(tmp_path, export):
    path = tmp_path / "exported"
    path.write_text("what was there")
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
    assert path.read_text() == "what was there"
    assert names(tmp_path) == ["exported"]


# Arrow and Parquet


@pytest.mark.parametrize("value", [pa.float32(), pa.float16()], ids=str)
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda value: pa.list_(value, DIM)])
def test_columns_of_every_kind_of_list(tmp_path, kind, value):
    rows = normal(1, dtype=value.to_pandas_dtype())
    source = table(rows, kind=kind(value))
    assert source.schema.field("embedding").type == kind(value)
    # Cut and put together again, so that chunks have offsets.
    pieces = pa.concat_tables([source.slice(100), source.slice(3, 20), source.slice(50, 0), source.slice(0, 1)])
    expected = np.concatenate([rows[100:], rows[3:23], rows[:1]])
    for output in (None, tmp_path / "index.relkt"):
        assert_holds(formats.from_arrow(pieces, output=output), expected)
    pq.write_table(pieces, tmp_path / "rows.parquet")
    assert_holds(formats.from_parquet(tmp_path / "rows.parquet", output=tmp_path / "index.relkt"), expected)


def test_a_column_of_tensors():
    rows = normal(1)
    vectors = pa.FixedShapeTensorArray.from_numpy_ndarray(rows)
    assert_holds(formats.from_arrow(pa.table({"embedding": vectors})), rows)
    matrices = pa.FixedShapeTensorArray.from_numpy_ndarray(rows.reshape(ROWS, 3, 4))
    with pytest.raises(
        TypeError, match=r"column: expected 'embedding' to be lists of float32 .*, got .*fixed_shape_tensor"
    ):
        formats.from_arrow(pa.table({"embedding": matrices}))


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.large_string(), pa.string_view()], ids=str)
def test_ids_of_every_kind(kind):
    ids = pa.array(range(ROWS)).cast(pa.string() if "string" in str(kind) else kind) if kind != pa.int8() else None
    wanted = [str(i) for i in range(ROWS)] if "string" in str(kind) else list(range(ROWS))
    if ids is None:
        wanted = [i - 80 for i in wanted]
        ids = pa.array(wanted, pa.int16())
    elif "string" in str(kind):
        ids = ids.cast(kind)
    rows = normal(1)
    assert_holds(formats.from_arrow(pa.table({"v": lists(rows), "n": ids}), column="v", id_column="n"), rows, wanted)


def test_files_of_a_folder(tmp_path):
    rows, ids = normal(1), IDS["integers"]
    (tmp_path / "parts").mkdir()
    for part in range(3):
        chosen = slice(part * 60, (part + 1) * 60)
        pq.write_table(table(rows[chosen], ids[chosen]), tmp_path / "parts" / f"{part}.parquet", row_group_size=7)
    source = pads.dataset(tmp_path / "parts")
    assert_holds(formats.from_arrow(source, id_column="id"), rows, ids)
    assert_holds(formats.from_arrow(source, id_column="id", output=tmp_path / "index.relkt"), rows, ids)
    # One after the other, in the order given.
    paths = [tmp_path / "parts" / f"{part}.parquet" for part in (2, 0, 1)]
    order = [*range(120, ROWS), *range(120)]
    shuffled = [ids[row] for row in order]
    index = formats.from_parquet(paths, id_column="id", output=tmp_path / "index.relkt")
    assert_holds(index, rows[order], shuffled)
    assert_holds(formats.from_parquet(tuple(map(str, paths)), id_column="id"), rows[order], shuffled)


def test_files_that_do_not_fit_together(tmp_path):
    pq.write_table(table(normal(1), IDS["integers"]), tmp_path / "a")
    pq.write_table(table(normal(1, dtype=np.float16), IDS["strings"]), tmp_path / "b")
    pq.write_table(table(normal(1, dim=DIM + 1), kind=pa.list_(pa.float32())), tmp_path / "c")
    pq.write_table(table(normal(1), kind=pa.list_(pa.float32())), tmp_path / "d")
    pq.write_table(table(normal(1)), tmp_path / "e")
    paths = {path.name: path for path in tmp_path.iterdir()}
    output = tmp_path / "index.relkt"
    with pytest.raises(
        TypeError, match=r"column: expected 'embedding' to be of one type, got .*float.* and .*halffloat"
    ):
        formats.from_parquet([paths["a"], paths["b"]], output=output)
    (tmp_path / "b").unlink()
    pq.write_table(table(normal(1), IDS["strings"]), tmp_path / "b")
    with pytest.raises(
        TypeError, match=r"id_column: expected 'id' to be of one type, got int64 in .*a' and string in .*b'"
    ):
        formats.from_parquet([paths["a"], paths["b"]], id_column="id", output=output)
    with pytest.raises(ValueError, match=f"column: expected lists of 12 values .*, got 13 in row {ROWS}"):
        formats.from_parquet([paths["d"], paths["c"]], output=output)
    with pytest.raises(ValueError, match="id_column: expected one column 'id', got 0 among other, embedding"):
        formats.from_parquet([paths["a"], paths["e"]], id_column="id", output=output)
    with pytest.raises(ValueError, match="path: expected at least one file, got none"):
        formats.from_parquet([])
    assert names(tmp_path) == ["a", "b", "c", "d", "e"]


def test_a_data_set_of_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows, ids = normal(1), IDS["strings"]
    features = datasets.Features(
        {
            "embedding": datasets.Sequence(datasets.Value("float32")),
            "id": datasets.Value("string"),
            "text": datasets.Value("string"),
        }
    )
    data = datasets.Dataset.from_dict({"embedding": rows, "id": ids, "text": ids}, features=features)
    assert_holds(formats.from_arrow(data, id_column="id"), rows, ids)
    # Rows that were selected, not those of the table beneath.
    chosen = np.random.default_rng(3).permutation(ROWS)[:70]
    index = formats.from_arrow(data.select(chosen), id_column="id", output=tmp_path / "index.relkt")
    assert_holds(index, rows[chosen], [ids[row] for row in chosen])
    with pytest.raises(TypeError, match=r"data: expected a pyarrow.Table, .*, got datasets.dataset_dict.DatasetDict"):
        formats.from_arrow(datasets.DatasetDict({"train": data}))


def with_null(position):
    column = lists(normal(1))
    return pa.FixedSizeListArray.from_arrays(
        column.flatten(), DIM, mask=pa.array([row == position for row in range(ROWS)])
    )


def with_null_value(position):
    return pa.FixedSizeListArray.from_arrays(
        pa.array([None if i == position * DIM + 5 else 1.0 for i in range(ROWS * DIM)], pa.float32()), DIM
    )


def with_longer(position):
    return pa.array([[1.0] * (DIM + (row == position)) for row in range(ROWS)], pa.list_(pa.float32()))


NUMBERS = pa.array(range(ROWS))


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"vector": lists(normal(1))}, ValueError, "column: expected one column 'embedding', got 0 among vector"),
        ({"embedding": lists(normal(1))[:0]}, ValueError, "expected at least one row, got none"),
        (
            {"embedding": lists(normal(1).astype(np.float64))},
            TypeError,
            r"column: expected 'embedding' to be lists of float32 or float16 \(halffloat\), got .*double.*\.cast\(",
        ),
        ({"embedding": NUMBERS}, TypeError, "column: expected 'embedding' to be lists of float32 .*, got int64$"),
        (
            {"embedding": pa.array([[row] for row in range(ROWS)])},
            TypeError,
            "column: expected 'embedding' to be lists of float32 .*, got list<.*int64>$",
        ),
        ({"embedding": with_null(23)}, ValueError, "column: expected no null in 'embedding', got one in row 23"),
        ({"embedding": with_null_value(23)}, ValueError, "got one among the values of row 23"),
        (
            {"embedding": with_longer(23)},
            ValueError,
            "column: expected lists of 12 values in 'embedding', like the first, got 13 in row 23",
        ),
        ({"embedding": lists(normal(1)), "id": NUMBERS.cast(pa.float64())}, TypeError, "id_column: .*, got double"),
        (
            {"embedding": lists(normal(1)), "key": NUMBERS},
            ValueError,
            "id_column: expected one column 'id', got 0 among",
        ),
        (
            {"embedding": lists(normal(1)), "id": pc.if_else(pc.equal(NUMBERS, 23), None, NUMBERS)},
            ValueError,
            "id_column: expected no null in 'id', got one in row 23",
        ),
        (
            {"embedding": lists(normal(1)), "id": pc.if_else(pc.equal(NUMBERS, 23), 5, NUMBERS)},
            ValueError,
            "ids: expected each id once, got 5 for the passages 5 and 23",
        ),
    ],
)
def test_columns_that_are_refused(tmp_path, columns, error, message):
    source = pa.table(columns)
    id_column = None if list(columns) in (["embedding"], ["vector"]) else "id"
    pq.write_table(source, tmp_path / "rows.parquet")
    for output in (None, tmp_path / "index.relkt"):
        with pytest.raises(error, match=message):
            formats.from_arrow(source, id_column=id_column, output=output)
        with pytest.raises(error, match=message):
            formats.from_parquet(tmp_path / "rows.parquet", id_column=id_column, output=output)
    assert names(tmp_path) == ["rows.parquet"]


def test_the_advice_on_float64_works():
    rows, name = normal(1), "vectors"
    table = pa.table({"n": NUMBERS, name: lists(rows.astype(np.float64))})
    with pytest.raises(TypeError) as refused:
        formats.from_arrow(table, column=name)
    advice = str(refused.value).split("lose digits: ")[1].split(" with name = ")[0]
    converted = eval(advice, {"table": table, "name": name, "pyarrow": pa})
    assert_holds(formats.from_arrow(converted, column=name), rows)


def test_data_that_is_no_table():
    for data, kind in ((normal(1), "numpy.ndarray"), ([], "builtins.list"), (lists(normal(1)), "pyarrow.lib.")):
        with pytest.raises(TypeError, match=f"data: expected a pyarrow.Table, .*, got {kind}"):
            formats.from_arrow(data)
    doubled = pa.table([lists(normal(1)), lists(normal(1))], ["embedding", "embedding"])
    with pytest.raises(ValueError, match="column: expected one column 'embedding', got 2 among embedding, embedding"):
        formats.from_arrow(doubled)


def test_names_of_exported_columns(tmp_path):
    index = relkt.Index(normal(1), ids=IDS["integers"])
    assert formats.to_arrow(index).column_names == ["id", "embedding"]
    assert formats.to_arrow(index, column="v", id_column="n").column_names == ["n", "v"]
    assert formats.to_arrow(index, id_column=None).column_names == ["embedding"]
    formats.to_parquet(index, tmp_path / "rows", column="v", id_column="n")
    assert_holds(formats.from_parquet(tmp_path / "rows", column="v", id_column="n"), normal(1), IDS["integers"])
    for export in (formats.to_arrow, lambda index, **names: formats.to_parquet(index, tmp_path / "new", **names)):
        with pytest.raises(ValueError, match="id_column: expected another name than that of the embeddings, got 'id'"):
            export(index, column="id")
    assert names(tmp_path) == ["rows"]


# faiss


@pytest.mark.parametrize("kind", ["flat", "mapped", "mapped2", "factory"])
@pytest.mark.parametrize("from_file", [False, True])
def test_faiss_indexes(tmp_path, kind, from_file):
    faiss = pytest.importorskip("faiss")
    rows, ids = unit(1), np.array(IDS["integers"]) + 2**40
    if kind == "flat":
        source, ids = faiss.IndexFlatIP(DIM), None
        source.add(rows)
    elif kind == "factory":
        source, ids = faiss.index_factory(DIM, "Flat", faiss.METRIC_INNER_PRODUCT), None
        source.add(rows)
    else:
        source = (faiss.IndexIDMap if kind == "mapped" else faiss.IndexIDMap2)(faiss.IndexFlatIP(DIM))
        source.add_with_ids(rows, ids)
    if from_file:
        faiss.write_index(source, str(tmp_path / "faiss"))
        source = tmp_path / "faiss"
    assert_holds(formats.from_faiss(source), rows, ids)
    assert_holds(formats.from_faiss(source, output=tmp_path / "index.relkt"), rows, ids)
    assert_holds(formats.from_faiss(source, ids=IDS["strings"]), rows, IDS["strings"])


def test_faiss_and_relkt_find_the_same():
    faiss = pytest.importorskip("faiss")
    rows, queries = normal(1) * 3, unit(2, 20)
    index = relkt.Index(rows)
    exported = formats.to_faiss(index)
    assert type(exported) is faiss.IndexFlatIP
    scores, found = exported.search(queries, 5)
    hits = index.search(queries, 5)
    np.testing.assert_allclose(hits.scores, scores, atol=1e-6)
    np.testing.assert_array_equal(hits.indices, found)
    back = formats.from_faiss(exported)
    np.testing.assert_allclose(np.linalg.norm(back.embeddings(), axis=1), 1, atol=1e-6)
    expected = rows.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.array_equal(back.embeddings(), expected.astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ids_to_faiss(dtype):
    faiss = pytest.importorskip("faiss")
    rows, ids = normal(1, dtype=dtype), IDS["integers"]
    exported = formats.to_faiss(relkt.Index(rows, ids=ids), with_ids=True)
    assert type(exported) is faiss.IndexIDMap
    queries = unit(2, 4)
    hits = relkt.search(queries, rows, 3)
    np.testing.assert_array_equal(exported.search(queries, 3)[1], np.array(ids)[hits.indices])
    assert formats.from_faiss(exported).ids.tolist() == ids
    assert formats.from_faiss(formats.to_faiss(relkt.Index(rows), with_ids=True)).ids.tolist() == list(range(ROWS))
    named = relkt.Index(rows, ids=IDS["strings"])
    assert type(formats.to_faiss(named)) is faiss.IndexFlatIP
    with pytest.raises(TypeError, match=r"with_ids: expected an index with integer ids, .*, got strings"):
        formats.to_faiss(named, with_ids=True)


@pytest.mark.parametrize("norm", [1.002, 0.998, 0.0, np.nan])
def test_faiss_rows_of_another_norm(tmp_path, norm):
    faiss = pytest.importorskip("faiss")
    rows = unit(1)
    rows[[37, 90]] *= np.float32(norm)
    source = faiss.IndexFlatIP(DIM)
    source.add(rows)
    message = rf"index: expected rows of norm 1, .*, got norm {norm:.3g}.* for row 37; with check_norms=False"
    for output in (None, tmp_path / "index.relkt"):
        with pytest.raises(ValueError, match=message):
            formats.from_faiss(source, output=output)
    assert names(tmp_path) == []
    if norm > 0:
        assert_holds(formats.from_faiss(source, check_norms=False), rows)


def test_faiss_rows_of_nearly_norm_1():
    faiss = pytest.importorskip("faiss")
    rows = unit(1)
    rows[5] *= np.float32(1.0009)
    source = faiss.IndexFlatIP(DIM)
    source.add(rows)
    assert_holds(formats.from_faiss(source), rows)


def test_other_faiss_indexes_are_refused():
    faiss = pytest.importorskip("faiss")
    expected = "index: expected a faiss IndexFlatIP, by itself or in an IndexIDMap, got"
    for source, kind in (
        (faiss.IndexFlatL2(DIM), "IndexFlatL2"),
        (faiss.IndexHNSWFlat(DIM, 4, faiss.METRIC_INNER_PRODUCT), "IndexHNSWFlat"),
        (faiss.IndexIDMap(faiss.IndexFlatL2(DIM)), "IndexFlatL2 in an IndexIDMap"),
        (normal(1), "ndarray"),
        (None, "NoneType"),
    ):
        with pytest.raises(TypeError, match=f"{expected} {kind}$"):
            formats.from_faiss(source)
    with pytest.raises(ValueError, match="index: expected at least one row, got none"):
        formats.from_faiss(faiss.IndexFlatIP(DIM))
    twice = faiss.IndexIDMap(faiss.IndexFlatIP(DIM))
    twice.add_with_ids(unit(1, 3), np.array([4, 8, 4]))
    with pytest.raises(ValueError, match="ids: expected each id once, got 4 for the passages 0 and 2"):
        formats.from_faiss(twice)


# The whole


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
def test_a_library_that_is_missing(monkeypatch, module, package, call):
    monkeypatch.setitem(sys.modules, module, None)  # As if it were not installed.
    with pytest.raises(ImportError, match=rf"{module} is needed .*: pip install {package}$"):
        call(relkt.Index(normal(1)))


def test_importing_formats_loads_none_of_them():
    script = "import sys, relkt.formats; print({'faiss', 'pyarrow', 'datasets', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


def test_rows_that_are_fewer_than_announced():
    with pytest.raises(ValueError, match="expected 11 rows, as announced, got 10"):
        index_of(iter([normal(1, 10)]), 11, None, None, None)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads how much memory there is from /proc")
def test_files_larger_than_memory(tmp_path):
    # 64 MiB of rows, and room for 32 MiB more than what is loaded: from a file to a file, in and out.
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

        round_trip("small", 4096)  # Starts threads, and fills the caches of allocators.
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
        "MALLOC_ARENA_MAX": "1",  # a thread that starts late would reserve one of its own
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": ":".join(sys.path),
    }
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert run.stdout == "limited\ndone\n", run.stderr
