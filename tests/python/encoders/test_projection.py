"""The least-squares map between embeddings, compared with NumPy, and as modules of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from relkt.encoders import encode_queries, load_encoder
from relkt.encoders.projection import append_projection, fit_projection, take_projection

TEXTS = ["the cat sat", "a dog", "zzz"]


def random(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def test_without_a_ridge_equals_lstsq_with_a_column_of_ones() -> None:
    source, target = random(50, 6, 0), random(50, 4, 1)
    weights, bias = fit_projection(source, target, ridge=0.0)
    ones = np.concatenate([source, np.ones((50, 1), np.float32)], axis=1).astype(np.float64)
    expected = np.linalg.lstsq(ones, target.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(weights, expected[:6].T, atol=1e-6)
    np.testing.assert_allclose(bias, expected[6], atol=1e-6)


def test_an_affine_map_is_recovered() -> None:
    source, weights, bias = random(40, 5, 2), random(7, 5, 3), random(1, 7, 4)[0]
    found, found_bias = fit_projection(source, source @ weights.T + bias, ridge=0.0)
    np.testing.assert_allclose(found, weights, atol=1e-5)
    np.testing.assert_allclose(found_bias, bias, atol=1e-5)


def test_a_ridge_by_hand() -> None:
    # One dimension: sum((s - mean)^2) is 2, sum((s - mean)(t - mean)) is 4; with ridge 1, r = 2 and W = 4 / (2 + 2).
    source, target = np.array([[1.0], [3.0]], np.float32), np.array([[10.0], [14.0]], np.float32)
    assert fit_projection(source, target, ridge=0.0)[0].item() == pytest.approx(2.0)
    weights, bias = fit_projection(source, target, ridge=1.0)
    assert weights.item() == pytest.approx(1.0)
    assert bias.item() == pytest.approx(12.0 - 2.0)
    # Repeating every text does not change the map; a source 10 times as large divides it by 10.
    assert fit_projection(source.repeat(2, 0), target.repeat(2, 0), ridge=1.0)[0].item() == pytest.approx(1.0)
    assert fit_projection(10 * source, target, ridge=1.0)[0].item() == pytest.approx(0.1)


def test_equals_the_normal_equations_with_fewer_texts_than_dimensions() -> None:
    source, target = random(5, 9, 5), random(5, 3, 6)
    weights, _ = fit_projection(source, target, ridge=0.3)
    s, t = (m.astype(np.float64) - m.mean(axis=0, dtype=np.float64) for m in (source, target))
    r = 0.3 * np.square(s).sum() / 9
    np.testing.assert_allclose(weights, np.linalg.solve(s.T @ s + r * np.eye(9), s.T @ t).T, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "ridge", "message"),
    [
        (random(3, 2, 0), random(4, 2, 0), 0.1, r"a row for each text, got the shapes \(3, 2\) and \(4, 2\)"),
        (random(0, 2, 0), random(0, 2, 0), 0.1, r"got the shapes \(0, 2\) and \(0, 2\)"),
        (random(3, 2, 0), random(3, 2, 0), -1.0, "ridge: expected a number of at least 0, got -1.0"),
    ],
)
def test_argument_errors(source: np.ndarray, target: np.ndarray, ridge: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_projection(source, target, ridge=ridge)


def test_a_projected_muse_is_saved_and_loaded_without_trust(tiny_model: SentenceTransformer, tmp_path) -> None:
    before = encode_queries(tiny_model, TEXTS)
    width = before.shape[1]
    weights, bias = random(5, width, 7), random(1, 5, 8)[0]
    append_projection(tiny_model, weights, bias)
    assert [type(module) for module in tiny_model][1:] == [Dense, Normalize]  # mUSE's rows are unit rows already
    assert tiny_model.get_embedding_dimension() == 5
    expected = before @ weights.T + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encode_queries(tiny_model, TEXTS), expected, atol=1e-5)
    assert all(p.requires_grad for p in tiny_model[1].parameters())
    tiny_model.save(str(tmp_path))
    loaded = load_encoder(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.encode(TEXTS), tiny_model.encode(TEXTS))
    plain = SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(plain.encode(TEXTS), tiny_model.encode(TEXTS))


def test_take_projection_of_another_model(tiny_model: SentenceTransformer, tmp_path) -> None:
    tiny_model.save(str(tmp_path))
    projected = load_encoder(tmp_path, device="cpu")
    take_projection(tiny_model, projected)
    assert len(tiny_model) == 1  # the other model has no projection yet
    append_projection(projected, random(3, projected.get_embedding_dimension(), 0), np.zeros(3, np.float32))
    take_projection(tiny_model, projected)
    assert torch.equal(tiny_model[1].linear.weight, projected[1].linear.weight)
    assert list(tiny_model.state_dict()) == list(projected.state_dict())
