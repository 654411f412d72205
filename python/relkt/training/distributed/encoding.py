"""Encoding shared by the processes of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from relkt import encoders
from relkt.training.distributed.processes import largest_over_processes, num_processes, rank, sum_over_processes

# Number of rows exchanged at once. It limits the GPU memory that is needed besides the memory of the model.
_ROWS_AT_ONCE = 16384


def encode_queries(model: SentenceTransformer, texts: Sequence[str], *, batch_size: int) -> NDArray[np.float32]:
    """:func:`relkt.encoders.encode_queries` in all processes. Each encodes a share; all get the whole result."""
    return _shared(encoders.encode_queries, model, texts, batch_size)


def encode_passages(model: SentenceTransformer, texts: Sequence[str], *, batch_size: int) -> NDArray[np.float32]:
    """:func:`relkt.encoders.encode_passages` in all processes. Each encodes a share; all get the whole result."""
    return _shared(encoders.encode_passages, model, texts, batch_size)


def _shared(
    encode: Callable[..., NDArray[np.float32]], model: SentenceTransformer, texts: Sequence[str], batch_size: int
) -> NDArray[Any]:
    if num_processes() == 1:
        return encode(model, texts, batch_size=batch_size)
    # Texts are dealt out by length, so that all processes have about the same work.
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    own = order[rank() :: num_processes()]
    embeddings = encode(model, [texts[row] for row in own], batch_size=batch_size)
    width = largest_over_processes(embeddings.shape[1] if own else 0, model.device)
    everything = np.zeros((len(texts), width), dtype=np.float32)
    if own:
        everything[own] = embeddings
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        rows = torch.from_numpy(everything[start : start + _ROWS_AT_ONCE]).to(model.device)
        sum_over_processes(rows)
        everything[start : start + _ROWS_AT_ONCE] = rows.cpu().numpy()
    return everything
