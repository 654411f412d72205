"""mUSE's network, compared with its formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relkt.encoders import muse_network
from relkt.encoders.muse_network import NGRAM_ORDERS, MuseConfig, MuseNetwork

TINY = MuseConfig(vocab_size=30, embedding_dim=5, ngram_dim=4, hidden_dim=6, output_dim=7)
TEXTS = [[1, 2], [1, 7, 8, 9, 2], [1, 5, 2], [1, *range(3, 29), 2], [1, 4, 4, 2]]


def make_network(dtype: torch.dtype = torch.float32, config: MuseConfig = TINY) -> MuseNetwork:
    torch.manual_seed(11)
    network = MuseNetwork(config)
    network.reset_parameters()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name:  # the initial values 1 and 0 would hide errors
                parameter += 0.3 * torch.randn_like(parameter)
    return network.to(dtype)


def flat(texts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([i for text in texts for i in text]), torch.tensor([len(text) for text in texts])


def embed_plainly(network: MuseNetwork, ids: list[int]) -> np.ndarray:
    """Embeds one text in NumPy, by the formulas in the network's docstring."""
    p = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + network.config.epsilon)
        return centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"]

    def convolve(x: np.ndarray, name: str, order: int) -> np.ndarray:
        out = np.empty_like(x)
        for t in range(len(x)):
            total = p[f"{name}.bias"].copy()
            for tap in range(order):
                source = t - (order - 1) // 2 + tap
                if 0 <= source < len(x):
                    total += p[f"{name}.weight"][:, tap, :] @ x[source]
            out[t] = total
        return out

    def block(x: np.ndarray, name: str) -> np.ndarray:
        inner = np.maximum(p[f"{name}.inner.weight"] @ x, 0)
        return p[f"{name}.shortcut.weight"] @ x + p[f"{name}.outer.weight"] @ inner

    e = p["embedding.weight"][ids]
    projected = norm(e @ p["projection.weight"].T + p["projection.bias"], "projection_norm")
    features = [e]
    for i, order in enumerate(NGRAM_ORDERS):
        x = projected[:, i * network.config.ngram_dim : (i + 1) * network.config.ngram_dim]
        h = x + np.maximum(convolve(x, f"branches.{i}.first", order), 0)
        features.append(h + np.maximum(convolve(h, f"branches.{i}.second", order), 0))
    f = norm(np.concatenate(features, axis=1), "feature_norm")
    s = (f @ p["pooling.weight"].T + p["pooling.bias"]).sum(axis=0) / np.sqrt(len(ids))
    v = np.tanh(block(np.maximum(block(s, "hidden_block"), 0), "output_block"))
    return v / np.linalg.norm(v)


def test_equals_the_formulas():
    network = make_network(torch.float64)
    expected = np.stack([embed_plainly(network, text) for text in TEXTS])
    np.testing.assert_allclose(network(*flat(TEXTS)).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_rows_are_unit():
    norms = make_network()(*flat(TEXTS)).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(len(TEXTS)), rtol=0, atol=1e-6)


def test_other_texts_do_not_change_an_embedding():
    network = make_network()
    together = network(*flat(TEXTS))
    for text, row in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(network(*flat([text]))[0], row, rtol=0, atol=1e-6)


def test_neighbours_in_the_flat_batch_are_independent():
    network = make_network(torch.float64)
    first = network(*flat([TEXTS[1], TEXTS[2], TEXTS[1]]))
    second = network(*flat([TEXTS[1], [1, 29, 2], TEXTS[1]]))
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("pass_tokens", [1, 6, 30])
def test_passes_do_not_change_the_result(monkeypatch, pass_tokens):
    network = make_network(torch.float64)
    expected = network(*flat(TEXTS)).detach()
    monkeypatch.setitem(muse_network._PASS_TOKENS, "cpu", pass_tokens)
    with torch.no_grad():
        torch.testing.assert_close(network(*flat(TEXTS)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "counts"), [([3], [1]), ([9], [1]), ([2, 2, 2], [2, 1]), ([9, 1, 4, 9], [1, 2, 1]), ([5, 1], [1, 1])]
)
def test_passes_take_as_many_texts_as_fit(lengths, counts):
    assert muse_network._texts_per_pass(lengths, pass_tokens=5) == counts


@pytest.mark.slow
def test_gradients_equal_finite_differences():
    network = make_network(torch.float64)
    ids, lengths = flat(TEXTS[:3])
    parameters = dict(network.named_parameters())

    def embed(*values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(network, named, (ids, lengths))

    values = tuple(p.detach().clone().requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(embed, values, eps=1e-6, atol=1e-5)


def test_every_parameter_gets_a_gradient():
    network = make_network()
    (network(*flat(TEXTS)) @ torch.randn(TINY.output_dim)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_works_under_autocast():
    network = make_network()
    exact = network(*flat(TEXTS)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(*flat(TEXTS))
    (rough.float() @ torch.randn(TINY.output_dim)).sum().backward()
    assert (rough.float() * exact).sum(dim=1).min() > 0.99
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


def test_the_linear_layer_as_a_convolution_gives_the_same_result():
    layer = torch.nn.Linear(5, 3)
    x = torch.randn(32, 5)
    torch.testing.assert_close(muse_network._rowwise_linear(x, layer), layer(x), rtol=0, atol=1e-6)


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="ngram_dim: expected a positive number, got 0"):
        MuseConfig(ngram_dim=0)
