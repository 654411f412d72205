"""Arrow tables and Parquet files: types of columns and ids, several files, and bad columns."""

import numpy as np
import pytest
from format_cases import DIM, IDS, ROWS, assert_holds, lists, names, normal, table

import relkt
from relkt import formats

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
pads = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("value", [pa.float32(), pa.float16()], ids=str)
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda value: pa.list_(value, DIM)])
def test_columns_of_all_list_types(tmp_path, kind, value):
    rows = normal(1, dtype=value.to_pandas_dtype())
    source = table(rows, kind=kind(value))
    assert source.schema.field("embedding").type == kind(value)
    # Sliced and concatenated, so that chunks have offsets.
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
def test_ids_of_all_types(kind):
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
    # Files are read in the given order.
    paths = [tmp_path / "parts" / f"{part}.parquet" for part in (2, 0, 1)]
    order = [*range(120, ROWS), *range(120)]
    shuffled = [ids[row] for row in order]
    index = formats.from_parquet(paths, id_column="id", output=tmp_path / "index.relkt")
    assert_holds(index, rows[order], shuffled)
    assert_holds(formats.from_parquet(tuple(map(str, paths)), id_column="id"), rows[order], shuffled)


def test_files_with_different_columns_are_refused(tmp_path):
    pq.write_table(table(normal(1), IDS["integers"]), tmp_path / "a")
    pq.write_table(table(normal(1, dtype=np.float16), IDS["strings"]), tmp_path / "b")
    pq.write_table(table(normal(1, dim=DIM + 1), kind=pa.list_(pa.float32())), tmp_path / "c")
    pq.write_table(table(normal(1), kind=pa.list_(pa.float32())), tmp_path / "d")
    pq.write_table(table(normal(1)), tmp_path / "e")
    paths = {path.name: path for path in tmp_path.iterdir()}
    output = tmp_path / "index.relkt"
    with pytest.raises(
        TypeError, match=r"column: expected one type of 'embedding' in all files, got .*float.* and .*halffloat"
    ):
        formats.from_parquet([paths["a"], paths["b"]], output=output)
    (tmp_path / "b").unlink()
    pq.write_table(table(normal(1), IDS["strings"]), tmp_path / "b")
    with pytest.raises(
        TypeError, match=r"id_column: expected one type of 'id' in all files, got int64 in .*a' and string in .*b'"
    ):
        formats.from_parquet([paths["a"], paths["b"]], id_column="id", output=output)
    with pytest.raises(ValueError, match=f"column: expected lists of 12 values .*, got 13 in row {ROWS}"):
        formats.from_parquet([paths["d"], paths["c"]], output=output)
    with pytest.raises(ValueError, match="id_column: expected one column 'id', got 0 among other, embedding"):
        formats.from_parquet([paths["a"], paths["e"]], id_column="id", output=output)
    with pytest.raises(ValueError, match="path: expected at least one file, got none"):
        formats.from_parquet([])
    assert names(tmp_path) == ["a", "b", "c", "d", "e"]


def test_a_dataset_of_the_datasets_library(tmp_path):
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
    # The selected rows, not the rows of the underlying table.
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
        ({"embedding": with_null(23)}, ValueError, "column: expected no null in 'embedding', got a null in row 23"),
        ({"embedding": with_null_value(23)}, ValueError, "got a null among the values of row 23"),
        (
            {"embedding": with_longer(23)},
            ValueError,
            "column: expected lists of 12 values in 'embedding', as in the first row, got 13 in row 23",
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
            "id_column: expected no null in 'id', got a null in row 23",
        ),
        (
            {"embedding": lists(normal(1)), "id": pc.if_else(pc.equal(NUMBERS, 23), 5, NUMBERS)},
            ValueError,
            "ids: expected each id once, got 5 for the passages 5 and 23",
        ),
    ],
)
def test_bad_columns_are_refused(tmp_path, columns, error, message):
    source = pa.table(columns)
    id_column = None if list(columns) in (["embedding"], ["vector"]) else "id"
    pq.write_table(source, tmp_path / "rows.parquet")
    for output in (None, tmp_path / "index.relkt"):
        with pytest.raises(error, match=message):
            formats.from_arrow(source, id_column=id_column, output=output)
        with pytest.raises(error, match=message):
            formats.from_parquet(tmp_path / "rows.parquet", id_column=id_column, output=output)
    assert names(tmp_path) == ["rows.parquet"]


def test_the_hint_about_float64_works():
    rows, name = normal(1), "vectors"
    table = pa.table({"n": NUMBERS, name: lists(rows.astype(np.float64))})
    with pytest.raises(TypeError) as refused:
        formats.from_arrow(table, column=name)
    advice = str(refused.value).split("loss of digits: ")[1].split(" with name = ")[0]
    converted = eval(advice, {"table": table, "name": name, "pyarrow": pa})
    assert_holds(formats.from_arrow(converted, column=name), rows)


def test_data_other_than_tables_is_refused():
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
        with pytest.raises(ValueError, match="expected another name than the column of embeddings, got 'id'"):
            export(index, column="id")
    assert names(tmp_path) == ["rows"]
