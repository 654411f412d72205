"""The negatives in use, in a trainer's checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerState, TrainingArguments

from relkt.training.remine.pairs import MiningPairs

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "relkt_negatives.npz"
"""In a trainer's checkpoint: the negatives that were in use when it was made."""


def checkpoint_file(args: TrainingArguments, state: TrainerState) -> Path:
    """The file in the checkpoint of the current step."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / CHECKPOINT_FILE


def save_negatives(path: Path, rows: NDArray[np.int64], *, identity: str, weights: str) -> None:
    """Writes the negatives in use; the file appears once it is complete.

    Args:
        path: Where.
        rows: (q, n) int64.
        identity: What the negatives are of; see :func:`identity_of`.
        weights: The checksum of the model.
    """
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, rows=rows, identity=identity, weights=weights)
    partial.replace(path)


def load_negatives(path: Path, *, identity: str, weights: str) -> NDArray[np.int64] | None:
    """What :func:`save_negatives` wrote; None if it did not, or with another identity or other weights.

    A damaged file counts as none, and a warning says what is wrong with it.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["identity"]) != identity or str(file["weights"]) != weights:
                return None
            rows: NDArray[np.int64] = file["rows"]
    except Exception as error:  # of many types: numpy, zipfile and zlib each have their own for a damaged file
        logger.warning("%s cannot be read: %s: %s", path, type(error).__name__, error)
        return None
    return rows


def identity_of(pairs: MiningPairs, kept: NDArray[np.int64], settings: Any) -> str:
    """SHA-256 of all that decides which negatives there are, but for the model.

    Args:
        pairs: What is mined.
        kept: The rows of the data set that have negatives.
        settings: All else, as JSON can hold it.
    """
    digest = hashlib.sha256(kept.tobytes())
    digest.update(json.dumps(settings).encode())
    digest.update(pairs.distinct.pairs.tobytes())
    for texts in (pairs.distinct.queries, pairs.distinct.passages):
        for text in texts:
            digest.update(f"{len(text)} {text}".encode())
    digest.update(repr(pairs.candidacy.exclude).encode())
    if pairs.candidacy.groups is not None:
        digest.update(pairs.candidacy.groups.tobytes())
    return digest.hexdigest()
