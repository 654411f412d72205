"""Data that gets a sketch."""

import numpy as np

import relkt


def test_data_with_structure_is_searched_like_any_other(tmp_path):
    """Clustered rows, which get a sketch, and rows with much in common: in memory, grown, from a file, and filtered."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((250, 128))
    clustered = centres[rng.integers(0, 250, 20_000)] + 0.3 * rng.standard_normal((20_000, 128))
    alike = 3 * centres[0] + rng.standard_normal((20_000, 128))
    for rows in (clustered.astype(np.float32), alike.astype(np.float32)):
        queries = rows[::1000] + rng.standard_normal((20, 128)).astype(np.float32) / 10
        unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        scores = (queries.astype(np.float64) @ unit.T).astype(np.float32)
        index = relkt.Index(rows[:18_000])
        index.add(rows[18_000:])
        index.save(tmp_path / "index.relkt")
        opened = relkt.Index.open(tmp_path / "index.relkt", verify=True)
        mask = np.arange(len(rows)) % 5 < 2
        for allow in (None, mask):
            allowed = np.where(mask, scores, -np.inf) if allow is not None else scores
            best = np.sort(allowed, axis=1)[:, ::-1][:, :10]
            for searched in (index, opened):
                for count in (1, 20):
                    hits = searched.search(queries[:count], 10, allow=allow)
                    norms = np.linalg.norm(queries[:count].astype(np.float64), axis=1, keepdims=True)
                    np.testing.assert_allclose(hits.scores * norms, best[:count], rtol=1e-6)
