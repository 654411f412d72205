"""An encoder as one function of token ids, for export: network, pooling, later modules, and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import Tensor, nn

from relkt.encoders.muse import MuseEncoder
from relkt.encoders.muse_network import MuseNetwork
from relkt.errors import ArgumentError

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Possible inputs of a graph, all int64 of shape (n, longest)."""

_AFTER_THE_NETWORK = (Dense, Dropout, LayerNorm, Normalize, Pooling)


class EncoderGraph(nn.Module):
    """Maps token ids to unit rows.

    Args:
        model: The encoder; its weights are shared.

    Raises:
        ArgumentError: If a module of the encoder cannot be exported, its pooling omits the prompt, or weights are not
            float32.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        first, *others = list(model)
        if not isinstance(first, MuseEncoder | Transformer):
            raise ArgumentError("model", "a Transformer or mUSE as the first module", type(first).__name__)
        for module in others:
            if type(module) not in _AFTER_THE_NETWORK:
                known = ", ".join(kind.__name__ for kind in _AFTER_THE_NETWORK)
                raise ArgumentError("model", f"{known} after the network", type(module).__name__)
            if isinstance(module, Pooling) and not module.include_prompt:
                raise ArgumentError("model", "pooling over all tokens", "pooling without the prompt's tokens")
        for name, weight in model.named_parameters():
            if weight.is_floating_point() and weight.dtype is not torch.float32:
                raise ArgumentError(
                    "model", "weights in float32", f"{weight.dtype} in {name}", hint="convert the model with .float()"
                )
        self.network = PaddedMuse(first.network) if isinstance(first, MuseEncoder) else first
        self.others = nn.ModuleList(others)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embeds texts.

        Args:
            input_ids: int64, (n, longest).
            attention_mask: int64, (n, longest), 1 for tokens and 0 for padding.
            token_type_ids: int64, (n, longest), if the network uses them.

        Returns:
            (n, dim) float32, unit rows.
        """
        values = zip(INPUTS, (input_ids, attention_mask, token_type_ids), strict=True)
        features = {name: value for name, value in values if value is not None}
        for module in (self.network, *self.others):
            features = module(features)
        return F.normalize(features["sentence_embedding"], dim=1)


class PaddedMuse(nn.Module):
    """mUSE's network on padded batches, in operations that every runtime has.

    :class:`~relkt.encoders.muse_network.MuseNetwork` concatenates texts without padding, with operations chosen for
    speed in PyTorch. This class computes the same function with basic operations; each export compares the two.

    Args:
        network: Its weights are shared.
    """

    def __init__(self, network: MuseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds ``sentence_embedding``, (n, output_dim), to ``input_ids`` and ``attention_mask``, (n, longest)."""
        network = self.network
        mask = features["attention_mask"].unsqueeze(-1).to(torch.float32)  # (n, longest, 1)
        embedded = network.embedding(features["input_ids"])
        projected = network.projection_norm(network.projection(embedded)) * mask
        grams = []
        for branch, part in zip(network.branches, projected.split(network.config.ngram_dim, dim=2), strict=True):
            hidden = (part + torch.relu(_convolve(part, branch.first))) * mask
            grams.append(hidden + torch.relu(_convolve(hidden, branch.second)))
        tokens = network.feature_norm(torch.cat([embedded, *grams], dim=2)) * mask
        count = mask.sum(dim=1)  # (n, 1)
        pooled = F.linear(tokens.sum(dim=1), network.pooling.weight) + count * network.pooling.bias
        hidden = torch.relu(network.hidden_block(pooled * count.rsqrt()))
        return {**features, "sentence_embedding": torch.tanh(network.output_block(hidden))}


def _convolve(x: Tensor, layer: Any) -> Tensor:
    """Convolution of a branch over (n, longest, dim), with zero padding at both ends."""
    weight: Tensor = layer.weight  # (out, taps, in)
    order = weight.shape[1]
    left = (order - 1) // 2
    padded = F.pad(x.transpose(1, 2), (left, order - 1 - left))
    return F.conv1d(padded, weight.permute(0, 2, 1), layer.bias).transpose(1, 2)
