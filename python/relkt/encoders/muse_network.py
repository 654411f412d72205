"""The network of the multilingual universal sentence encoder (mUSE): n-gram convolutions, sum, deep averaging network.

Reference: Yang et al., "Multilingual Universal Sentence Encoder for Semantic Retrieval", ACL 2020, section 3 (the CNN
model), as in the published version 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relkt.encoders.piece_embedding import PieceEmbedding

NGRAM_ORDERS = (2, 3, 5)
"""Window widths of the three branches. A window of n tokens starts (n - 1) // 2 tokens to the left of its token."""

_GAP_ROWS = max(n // 2 for n in NGRAM_ORDERS)
# _rowwise_linear cuts the rows into this number of images; the number of rows is a multiple of it.
_IMAGES = 16
# Tokens per pass without gradients. It bounds the memory (about 20 kB per token), and on a CPU the working set stays
# close to the size of the cache.
_PASS_TOKENS = {"cpu": 2048}
_PASS_TOKENS_ELSEWHERE = 65536


@dataclass(frozen=True)
class MuseConfig:
    """Sizes of the network; the defaults are the published model's.

    Args:
        vocab_size: Number of pieces of the tokenizer.
        embedding_dim: Width of a piece's embedding.
        ngram_dim: Width of each n-gram branch.
        hidden_dim: Width of the first block of the deep averaging network.
        output_dim: Width of a text's embedding.
        epsilon: Added to variances; also the lower bound of squared norms in divisions.
    """

    vocab_size: int = 128_000
    embedding_dim: int = 512
    ngram_dim: int = 256
    hidden_dim: int = 320
    output_dim: int = 512
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embedding_dim", "ngram_dim", "hidden_dim", "output_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


class MuseNetwork(nn.Module):
    """The network: from the concatenated token ids of several texts to one unit vector per text.

    Here e(t) is the embedding of token t, and LN is layer normalisation:

    - p = LN(W e + b), split into three branches of ``ngram_dim``, one per order n;
    - in each branch h = p + relu(conv_n(p)), then g = h + relu(conv_n(h)), with zero padding at both ends of a text;
    - f = LN([e, g_2, g_3, g_5]), s = sum over the tokens of (V f + c), divided by the square root of their number;
    - u = relu(A s + B relu(C s)), v = tanh(D u + E relu(F u)), and the embedding is v / |v|.

    The texts are one flat batch without padding; two zero rows between neighbours separate their windows. Convolutions
    treat the flat batch as a channels-last image one row high, which needs no copy of the windows.

    Parameters are allocated but not initialised; load them, or call :meth:`reset_parameters`.
    """

    def __init__(self, config: MuseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MuseConfig()
        ngram_dims = config.ngram_dim * len(NGRAM_ORDERS)
        self.embedding = PieceEmbedding(config.vocab_size, config.embedding_dim)
        self.projection = nn.Linear(config.embedding_dim, ngram_dims)
        self.projection_norm = nn.LayerNorm(ngram_dims, eps=config.epsilon)
        self.branches = nn.ModuleList(_NgramBranch(order, config.ngram_dim) for order in NGRAM_ORDERS)
        self.feature_norm = nn.LayerNorm(config.embedding_dim + ngram_dims, eps=config.epsilon)
        self.pooling = nn.Linear(config.embedding_dim + ngram_dims, config.output_dim)
        self.hidden_block = _ResidualBlock(config.output_dim, config.hidden_dim, config.hidden_dim)
        self.output_block = _ResidualBlock(config.hidden_dim, config.output_dim, config.output_dim)

    def replace_embedding(self, table: Tensor) -> None:
        """Replaces the table of token embeddings.

        Args:
            table: Shape ``(vocab_size, embedding_dim)``, with any number of rows.

        Raises:
            ValueError: If the table has another width.
        """
        if table.ndim != 2 or table.shape[1] != self.config.embedding_dim:
            raise ValueError(f"table: expected {self.config.embedding_dim} columns, got the shape {tuple(table.shape)}")
        embedding = PieceEmbedding(*table.shape).to(table)
        with torch.no_grad():
            embedding.weight.copy_(table)
        self.config = replace(self.config, vocab_size=table.shape[0])
        self.embedding = embedding

    def reset_parameters(self) -> None:
        """Initialises weights at random (normal, variance 1 / fan-in), norms with 1 and 0, and biases with 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name.startswith("embedding."):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            else:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Embeds texts.

        Args:
            ids: int64, shape ``(tokens,)``: the concatenated ids of all texts.
            lengths: int64, shape ``(n,)``: number of tokens of each text, at least 1; the sum is ``tokens``.

        Returns:
            Shape ``(n, output_dim)``, unit rows. The other texts of a batch change a row only by rounding of matrix
            products (1e-6).
        """
        if torch.is_grad_enabled():
            return self._embed(ids, lengths)
        pass_tokens = _PASS_TOKENS.get(ids.device.type, _PASS_TOKENS_ELSEWHERE)
        if ids.shape[0] <= pass_tokens:
            return self._embed(ids, lengths)
        counts = _texts_per_pass(lengths.tolist(), pass_tokens)
        parts = torch.split(lengths, counts)
        ids_of_parts = torch.split(ids, [int(part.sum()) for part in parts])
        return torch.cat([self._embed(*part) for part in zip(ids_of_parts, parts, strict=True)])

    def _embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        num_tokens, num_texts = ids.shape[0], lengths.shape[0]
        text_of = torch.repeat_interleave(torch.arange(num_texts, device=ids.device), lengths, output_size=num_tokens)
        rows_of = torch.arange(num_tokens, device=ids.device) + _GAP_ROWS * text_of
        num_rows = num_tokens + _GAP_ROWS * (num_texts - 1)
        num_rows += -num_rows % _IMAGES

        embedded = self.embedding(ids.new_zeros(num_rows).index_copy(0, rows_of, ids))  # (rows, embedding_dim)
        is_token = embedded.new_zeros(num_rows, 1).index_fill(0, rows_of, 1.0)
        projected = self.projection_norm(_rowwise_linear(embedded, self.projection)) * is_token
        branches = projected.split(self.config.ngram_dim, dim=1)
        grams = [branch(x, is_token) for branch, x in zip(self.branches, branches, strict=True)]
        features = self.feature_norm(torch.cat([embedded, *grams], dim=1))  # (rows, embedding_dim + ngram_dims)

        summed = _sum_texts(features, rows_of, lengths)
        # The sum over tokens and the linear layer commute; summing first leaves one row per text to multiply.
        count = lengths.to(summed.dtype).unsqueeze(1)
        pooled = F.linear(summed, self.pooling.weight) + count * self.pooling.bias
        hidden = torch.relu(self.hidden_block(pooled * count.rsqrt()))
        output = torch.tanh(self.output_block(hidden))
        return F.normalize(output, dim=1, eps=self.config.epsilon**0.5)


class _NgramBranch(nn.Module):
    """Two residual convolutions of the same order."""

    def __init__(self, order: int, dim: int) -> None:
        super().__init__()
        self.first = _RowConv(order, dim)
        self.second = _RowConv(order, dim)

    def forward(self, x: Tensor, is_token: Tensor) -> Tensor:
        """Maps (rows, dim) to (rows, dim). Gaps between texts are zero in the input and undefined in the output."""
        # The gaps must be zero again before the second convolution reads them.
        hidden = (x + torch.relu(self.first(x))) * is_token
        return hidden + torch.relu(self.second(hidden))


class _RowConv(nn.Module):
    """A convolution over rows: (rows, dim) -> (rows, dim), with zeros beyond the first and the last row.

    ``weight`` has shape (out, taps, in), which is (out, in, 1, taps) in channels-last order, as the kernels need it.
    """

    def __init__(self, order: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, order, dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        order = self.weight.shape[1]
        left = (order - 1) // 2
        padding = order - 1 - left
        image = x.unsqueeze(0).unsqueeze(0).permute(0, 3, 1, 2)  # (1, dim, 1, rows), channels last
        out = F.conv2d(image, self.weight.permute(0, 2, 1).unsqueeze(2), self.bias, padding=(0, padding))
        # Windows of even order extend further to the right, but both sides have the same padding: drop the extra row.
        return out.permute(0, 2, 3, 1)[0, 0].narrow(0, padding - left, x.shape[0])


class _ResidualBlock(nn.Module):
    """x -> S x + O relu(I x), without biases."""

    def __init__(self, input_dim: int, inner_dim: int, output_dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(input_dim, inner_dim, bias=False)
        self.outer = nn.Linear(inner_dim, output_dim, bias=False)
        self.shortcut = nn.Linear(input_dim, output_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.outer(torch.relu(self.inner(x)))
        shortcut: Tensor = self.shortcut(x)
        return shortcut + residual


def _rowwise_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)`` for x (rows, in), rows a multiple of _IMAGES.

    On a CPU, PyTorch computes float32 matrix products with MKL, which uses half the vector width on processors other
    than Intel's. It computes convolutions with oneDNN, which uses the full width (except for pointwise convolutions of
    fewer than 16 images). So a convolution that gives the same product is twice as fast.
    """
    if x.device.type != "cpu":
        return F.linear(x, layer.weight, layer.bias)
    rows, width = x.shape
    images = x.view(_IMAGES, 1, rows // _IMAGES, width).permute(0, 3, 1, 2)
    out = F.conv2d(images, layer.weight.unsqueeze(2).unsqueeze(3), layer.bias)
    return out.permute(0, 2, 3, 1).reshape(rows, -1)


def _sum_texts(features: Tensor, rows_of: Tensor, lengths: Tensor) -> Tensor:
    """Sum of each text's rows, (rows, dim) -> (n, dim), at least in float32."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    starts = lengths.cumsum(0) - lengths
    return F.embedding_bag(rows_of, features, starts, mode="sum")


def _texts_per_pass(lengths: list[int], pass_tokens: int) -> list[int]:
    """Number of texts in each pass, in order; a pass has at most ``pass_tokens`` tokens, or a single text."""
    counts: list[int] = []
    tokens = pass_tokens
    for length in lengths:
        if tokens + length > pass_tokens:
            counts.append(0)
            tokens = 0
        counts[-1] += 1
        tokens += length
    return counts
