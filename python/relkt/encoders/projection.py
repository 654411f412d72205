"""An affine map from one model's embeddings to another's, appended to the first model as modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import nn

from relkt.encoders.muse import MuseEncoder


def fit_projection(
    source: NDArray[np.float32], target: NDArray[np.float32], *, ridge: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fits an affine map from embeddings to other embeddings of the same texts, by least squares.

    Minimises ``sum_i |W s_i + b - t_i|^2 + r |W|^2`` over W and b, in double precision. ``r = ridge * v``, where v is
    the mean over the source's dimensions of ``sum_i (s_i - mean(s))^2``, so that the effect of a ridge depends neither
    on the number of texts nor on the scale. The penalty does not shrink the bias.

    Args:
        source: (n, d) float32.
        target: (n, e) float32, of the same texts.
        ridge: At least 0; above 0 if there may be fewer texts than dimensions.

    Returns:
        The weights W, (e, d) float32, and the bias b, (e,) float32.

    Raises:
        ValueError: If the numbers of rows differ, there is no row, or the ridge is negative.

    Reference:
        Hoerl and Kennard, "Ridge Regression", Technometrics 1970; as a map between embedding spaces, Mikolov et al.,
        "Exploiting Similarities among Languages for Machine Translation", 2013, section 3.
    """
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target) or len(source) == 0:
        raise ValueError(
            f"source, target: expected two matrices with a row for each text, got the shapes {source.shape} and "
            f"{target.shape}"
        )
    if not ridge >= 0:
        raise ValueError(f"ridge: expected a number of at least 0, got {ridge}")
    s, t = source.astype(np.float64), target.astype(np.float64)
    s_mean, t_mean = s.mean(axis=0), t.mean(axis=0)
    s, t = s - s_mean, t - t_mean
    # Additional rows sqrt(r) e_j with targets 0 add r |W|^2 to the sum of squares. Normal equations (s.T @ s) are
    # avoided, because they would square the condition number.
    shrink = np.sqrt(ridge * np.square(s).sum() / s.shape[1]) * np.eye(s.shape[1])
    padded = np.concatenate([t, np.zeros((s.shape[1], t.shape[1]))])
    weights = np.linalg.lstsq(np.concatenate([s, shrink]), padded, rcond=None)[0].T  # (e, d)
    return weights.astype(np.float32), (t_mean - weights @ s_mean).astype(np.float32)


def append_projection(model: SentenceTransformer, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Appends an affine map of the unit embeddings and a normalisation to a model; both are saved with it.

    Args:
        model: Changed in place. It gets the modules ``Dense`` and ``Normalize`` of sentence-transformers, preceded by
            another ``Normalize`` if its embeddings are not unit rows yet.
        weights: (e, d) float32, with the d dimensions of the model's embeddings.
        bias: (e,) float32.
    """
    *_, last = model
    modules: list[nn.Module] = [] if isinstance(last, MuseEncoder | Normalize) else [Normalize()]
    out_features, in_features = weights.shape
    dense = Dense(
        in_features,
        out_features,
        bias=True,
        activation_function=nn.Identity(),
        init_weight=torch.from_numpy(weights.copy()),
        init_bias=torch.from_numpy(bias.copy()),
    )
    for module in (*modules, dense, Normalize()):
        model.append(module.to(model.device).train(model.training))


def take_projection(model: SentenceTransformer, saved: SentenceTransformer) -> None:
    """Appends the projection of another model of the same kind.

    Args:
        model: Changed in place.
        saved: The same model with a projection. Without a projection in ``saved``, ``model`` stays unchanged.
    """
    added: list[Any] = list(saved)[len(model) :]
    for module in added:
        model.append(module.to(model.device).train(model.training))
