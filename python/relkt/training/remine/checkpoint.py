"""The current negatives, saved in a trainer's checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerState, TrainingArguments

from relkt.storage import atomic_file
from relkt.training.remine.pairs import MiningPairs

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "relkt_negatives.npz"
"""Name of the file with the current negatives in a trainer's checkpoint."""


def checkpoint_file(args: TrainingArguments, state: TrainerState) -> Path:
    """The file in the checkpoint of the current step."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / CHECKPOINT_FILE


def save_negatives(path: Path, rows: NDArray[np.int64], *, identity: str, weights: str) -> None:
    """Saves the current negatives atomically.

    Args:
        path: The file.
        rows: (q, n) int64.
        identity: Hash of pairs and settings; see :func:`identity_of`.
        weights: Checksum of the model.
    """
    with atomic_file(path) as file:
        np.savez(file, rows=rows, identity=identity, weights=weights)


def load_negatives(path: Path, *, identity: str, weights: str) -> NDArray[np.int64] | None:
    """Reads the negatives; None if the file is missing, damaged, or has another identity or other weights.

    If the file is damaged, a warning describes the damage.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["identity"]) != identity or str(file["weights"]) != weights:
                return None
            rows: NDArray[np.int64] = file["rows"]
    except Exception as error:  # numpy, zipfile and zlib raise many types for a damaged file
        logger.warning("%s cannot be read: %s: %s", path, type(error).__name__, error)
        return None
    return rows


def identity_of(pairs: MiningPairs, kept: NDArray[np.int64], settings: Any) -> str:
    """SHA-256 of everything that determines the negatives, except the model.

    Args:
        pairs: Queries, passages and exclusions.
        kept: The rows of the data set that have negatives.
        settings: Everything else, as JSON values.
    """
    digest = hashlib.sha256(kept.tobytes())
    digest.update(json.dumps(settings).encode())
    digest.update(pairs.distinct.pairs.tobytes())
    for texts in (pairs.distinct.queries, pairs.distinct.passages):
        for text in texts:
            digest.update(f"{len(text)} {text}".encode())
    digest.update(repr(pairs.exclusions.exclude).encode())
    if pairs.exclusions.groups is not None:
        digest.update(pairs.exclusions.groups.tobytes())
    return digest.hexdigest()
