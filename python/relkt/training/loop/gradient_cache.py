"""Forward passes in chunks, with gradient caching.

1. Encode all texts in chunks of texts of similar length; keep the activations of a few chunks only.
2. Compute the loss of all embeddings, and the gradient of the loss with respect to the embeddings.
3. Propagate this gradient through the kept chunks. Encode each of the other chunks again, with the same random numbers
   as before, and propagate its part of the gradient.

Memory thus never holds the activations of more than a few chunks, and the gradient of the weights equals the gradient
of the whole batch.

Reference:
    Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relkt.training.distributed.processes import largest_over_processes, num_processes, rank, sum_over_processes


class Chunk(TypedDict):
    """Texts of one forward pass. This is a dictionary, because the trainer moves dictionaries of tensors to its device.

    Attributes:
        rows: Rows of the texts among all texts of the micro-batch, int64, shape ``(c,)``.
        features: Model inputs.
        tokens: Number of tokens, padding included.
    """

    rows: Tensor
    features: dict[str, Any]
    tokens: int


def split_by_length(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Split texts into chunks, longest first.

    Args:
        lengths: Number of tokens of each text, shape ``(n,)``.
        max_tokens: Upper bound on the tokens of a chunk, padding included; 0 for no limit. A text with more tokens is a
            chunk by itself.

    Returns:
        The rows of each chunk, sorted by descending length, then by row. No chunk is empty.
    """
    order = np.argsort(-lengths, kind="stable")
    chunks = []
    while len(order):
        count = max(1, max_tokens // max(1, int(lengths[order[0]]))) if max_tokens else len(order)
        chunks.append(order[:count])
        order = order[count:]
    return chunks


def make_chunks(
    texts: Sequence[str], collate: Callable[[list[str]], dict[str, Any]], *, max_tokens: int, first_row: int
) -> list[Chunk]:
    """This process's share of some texts, in chunks.

    Args:
        texts: Texts of one kind (questions, or passages), at least one.
        collate: Converts texts into model inputs. The length of a text is the sum of its ``attention_mask``, or its
            number of characters if the inputs have no mask.
        max_tokens: As for :func:`split_by_length`.
        first_row: Row of the first text among all texts of the micro-batch.
    """
    features = collate(list(texts))
    lengths = _lengths(texts, features)
    # Deal out texts by length, so that all processes have about the same work.
    own = np.argsort(-lengths, kind="stable")[rank() :: num_processes()]
    chunks: list[Chunk] = []
    for part in split_by_length(lengths[own], max_tokens):
        rows = own[part]
        whole = len(rows) == len(texts)
        chunks.append(
            {
                "rows": torch.from_numpy(np.arange(len(texts)) if whole else rows) + first_row,
                # Tokenize again instead of slicing, because models differ in the layout of features.
                "features": features if whole else collate([texts[row] for row in rows.tolist()]),
                "tokens": int(lengths[rows].max()) * len(rows),
            }
        )
    return chunks


class CachedForward:
    """A forward pass that encodes the texts of a micro-batch in chunks; :meth:`backward` is its backward pass.

    In a job of several processes, each process encodes its own chunks, and then gets the embeddings of all texts. If
    each process runs the backward pass of the same loss, the sum of the processes' gradients is the gradient of the
    micro-batch.

    Args:
        model: The encoder.
        chunks: The chunks of this process; empty if there are fewer texts than processes.
        num_texts: Number of texts of the micro-batch, in all processes.
        max_kept_tokens: Maximum number of tokens, padding included, whose activations stay in memory; at least one
            chunk keeps its activations. With None, all chunks keep their activations.

    Attributes:
        embeddings: Embeddings of all texts in their order, float32, shape ``(num_texts, d)``. Call ``backward`` on a
            loss computed from them, then on this object.
    """

    def __init__(
        self, model: nn.Module, chunks: Sequence[Chunk], num_texts: int, *, max_kept_tokens: int | None
    ) -> None:
        self._model = model
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._uncached: list[tuple[Chunk, list[Tensor]]] = []
        device = next(model.parameters()).device
        parts: list[tuple[Tensor, Tensor]] = []
        # The largest chunks run last and keep their activations, because they would cost most to run again.
        ordered = sorted(chunks, key=lambda chunk: chunk["tokens"])
        for place, chunk in enumerate(ordered):
            rest = sum(later["tokens"] for later in ordered[place:])
            if max_kept_tokens is not None and rest > max_kept_tokens and place < len(ordered) - 1:
                self._uncached.append((chunk, _random_states(device)))
                with torch.no_grad():
                    part = self._embed(chunk)
            else:
                part = self._embed(chunk)
                self._kept.append((chunk["rows"], part))
            parts.append((chunk["rows"], part.detach()))
        width = largest_over_processes(parts[0][1].shape[1] if parts else 0, device)
        self.embeddings = torch.zeros(num_texts, width, device=device)
        for rows, part in parts:
            self.embeddings[rows] = part
        # Each row is nonzero in one process only, so the sum equals the row.
        sum_over_processes(self.embeddings)
        self.embeddings.requires_grad_()

    def backward(self) -> None:
        """Propagate the gradient of the embeddings to the weights, and add the result to the weights' gradients."""
        gradient = self.embeddings.grad
        assert gradient is not None  # the caller ran the backward pass of the loss
        if self._kept:
            torch.autograd.backward([part for _, part in self._kept], [gradient[rows] for rows, _ in self._kept])
            self._kept.clear()
        for chunk, states in self._uncached:
            with _random(states, gradient.device):
                part = self._embed(chunk)
            part.backward(gradient[chunk["rows"]])  # type: ignore[no-untyped-call]
        self._uncached.clear()

    def _embed(self, chunk: Chunk) -> Tensor:
        embeddings: Tensor = self._model(dict(chunk["features"]))["sentence_embedding"]
        return embeddings.float()


def _lengths(texts: Sequence[str], features: Mapping[str, Any]) -> NDArray[np.int64]:
    mask = features.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and len(mask) == len(texts):
        return np.asarray(mask.sum(dim=1).cpu().numpy(), dtype=np.int64)
    return np.array([len(text) for text in texts], dtype=np.int64)


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def _restore(states: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])


@contextmanager
def _random(states: Sequence[Tensor], device: torch.device) -> Iterator[None]:
    """Draw random numbers from given states; restore the current states afterwards."""
    before = _random_states(device)
    _restore(states, device)
    try:
        yield
    finally:
        _restore(before, device)
