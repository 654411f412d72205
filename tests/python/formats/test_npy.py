"""Imports from NumPy files."""

import numpy as np
import pytest
from format_cases import assert_holds, names, normal

from relkt import formats


@pytest.mark.parametrize("output", [None, "index.relkt"])
def test_an_array_in_column_order(tmp_path, output):
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
def test_arrays_of_another_shape_or_type_are_refused(tmp_path, array, error, message):
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(error, match=message):
        formats.from_npy(tmp_path / "rows.npy", output=tmp_path / "index.relkt")
    with pytest.raises(error, match=message):
        formats.from_npy(tmp_path / "rows.npy")
    assert names(tmp_path) == ["rows.npy"]
