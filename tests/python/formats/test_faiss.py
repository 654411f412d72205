"""faiss indexes."""

import numpy as np
import pytest
from format_cases import DIM, FLOATS, IDS, ROWS, assert_holds, names, normal, unit

import relkt
from relkt import formats


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


def test_faiss_and_relkt_return_the_same():
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
def test_ids_are_exported_to_faiss(dtype):
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
def test_faiss_rows_without_norm_1_are_refused(tmp_path, norm):
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


def test_faiss_rows_within_the_tolerance_are_accepted():
    faiss = pytest.importorskip("faiss")
    rows = unit(1)
    rows[5] *= np.float32(1.0009)
    source = faiss.IndexFlatIP(DIM)
    source.add(rows)
    assert_holds(formats.from_faiss(source), rows)


def test_other_faiss_indexes_are_refused():
    faiss = pytest.importorskip("faiss")
    expected = "index: expected a faiss IndexFlatIP, alone or in an IndexIDMap, got"
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
