"""The texts of a step in chunks of similar length, with or without their activations in memory until the loss is known.

Reference for the latter: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021.
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
    """Texts of one forward pass.

    Its values are what a trainer moves to its device.

    Attributes:
        rows: Which of the step's embeddings these are, int64, shape ``(c,)``.
        features: What the model takes.
        tokens: Tokens of the pass, padding included.
    """

    rows: Tensor
    features: dict[str, Any]
    tokens: int


def cut(lengths: NDArray[np.int64], most_tokens: int) -> list[NDArray[np.int64]]:
    """Cut texts into chunks, longest first.

    Args:
        lengths: Tokens of each text, shape ``(n,)``.
        most_tokens: The most tokens of a chunk, each of its texts padded to the longest; 0 for no limit. A text that is
            longer has a chunk of its own.

    Returns:
        The rows of each chunk, none of them empty, in order of descending length; of equal texts the first comes first.
    """
    order = np.argsort(-lengths, kind="stable")
    chunks = []
    while len(order):
        count = max(1, most_tokens // max(1, int(lengths[order[0]]))) if most_tokens else len(order)
        chunks.append(order[:count])
        order = order[count:]
    return chunks


def make_chunks(
    texts: Sequence[str], collate: Callable[[list[str]], dict[str, Any]], *, most_tokens: int, first_row: int
) -> list[Chunk]:
    """This process's share of some texts, in chunks.

    Args:
        texts: The texts of one kind (questions, or passages), at least one.
        collate: Makes features of texts; their lengths are those of its ``attention_mask``, or the number of characters
            where it makes none.
        most_tokens: As for :func:`cut`.
        first_row: The row of the first text among the step's embeddings.
    """
    features = collate(list(texts))
    lengths = _lengths(texts, features)
    # Dealt out by length, so that the shares cost about the same.
    own = np.argsort(-lengths, kind="stable")[rank() :: num_processes()]
    chunks: list[Chunk] = []
    for part in cut(lengths[own], most_tokens):
        rows = own[part]
        whole = len(rows) == len(texts)
        chunks.append(
            {
                "rows": torch.from_numpy(np.arange(len(texts)) if whole else rows) + first_row,
                # Tokenized again rather than cut out: how a model lays out the features of several texts is its own.
                "features": features if whole else collate([texts[row] for row in rows.tolist()]),
                "tokens": int(lengths[rows].max()) * len(rows),
            }
        )
    return chunks


class ChunkedPass:
    """A forward pass over the texts of a step in chunks, and its backward pass once the gradient of the loss is known.

    The activations of all chunks stay in memory, or, with ``most_kept``, those of so many tokens: the other chunks are
    run without, and again with activations when the gradient of their embeddings is known. Random numbers (dropout) are
    the same in both runs of a chunk, so the gradient is the same, too.

    Each process of a job has chunks of its own, and ends up with the embeddings of all. When each has done its backward
    pass with the same loss, the sum of their gradients is that of the whole.

    Args:
        model: The encoder.
        chunks: This process's; none if there are fewer texts than processes.
        num_texts: Texts of the step, in all processes.
        most_kept: Tokens whose activations are kept, padding included; one chunk is kept whatever its size. None for
            those of all chunks.

    Attributes:
        embeddings: Of all texts, in their order, float32, shape ``(num_texts, d)``. Call ``backward`` on a loss of it,
            and then on this.
    """

    def __init__(self, model: nn.Module, chunks: Sequence[Chunk], num_texts: int, *, most_kept: int | None) -> None:
        self._model = model
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._again: list[tuple[Chunk, list[Tensor]]] = []
        device = next(model.parameters()).device
        parts: list[tuple[Tensor, Tensor]] = []
        # The largest come last: they cost most to run again, and those run before leave no activations.
        ordered = sorted(chunks, key=lambda chunk: chunk["tokens"])
        for place, chunk in enumerate(ordered):
            rest = sum(later["tokens"] for later in ordered[place:])
            if most_kept is not None and rest > most_kept and place < len(ordered) - 1:
                self._again.append((chunk, _random_states(device)))
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
        # Each row is another process's or this one's, so the sum is the row.
        sum_over_processes(self.embeddings)
        self.embeddings.requires_grad_()

    def backward(self) -> None:
        """Add the gradients of the weights, from that of the embeddings, to what they have."""
        gradient = self.embeddings.grad
        assert gradient is not None  # the loss's backward came first
        if self._kept:
            torch.autograd.backward([part for _, part in self._kept], [gradient[rows] for rows, _ in self._kept])
            self._kept.clear()
        for chunk, states in self._again:
            with _random(states, gradient.device):
                part = self._embed(chunk)
            part.backward(gradient[chunk["rows"]])  # type: ignore[no-untyped-call]
        self._again.clear()

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
    """Draw random numbers from some states, and afterwards from where things were before."""
    before = _random_states(device)
    _restore(states, device)
    try:
        yield
    finally:
        _restore(before, device)
