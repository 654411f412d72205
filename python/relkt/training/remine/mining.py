"""Embeds the texts, mines negatives and counts them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from relkt.arrays import as_count, as_threads
from relkt.encoders import encode_passages, encode_queries, model_checksum
from relkt.errors import ArgumentError
from relkt.mining import MinedNegatives, MiningConditions
from relkt.mining.conditions import ConditionArgs
from relkt.mining.negatives import mine_from
from relkt.training.model.precision import original_forward
from relkt.training.remine.pairs import MiningPairs

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Remined:
    """Result of one mining; stored in ``trainer.state.log_history`` under names with the prefix ``remine_``.

    Anchors that were left out when the callback was made are not counted.

    Attributes:
        negatives: Number of distinct negatives, summed over the anchors.
        score: Mean cosine of the negatives with their anchor.
        positive_score: Mean cosine of the anchors with their lowest-scoring positive.
        changed: Share of the negatives that are new for their anchor; 1 in the first mining.
        filled: Number of places in the negative columns that repeat a negative, because the anchor has fewer negatives
            than there are columns.
        kept: Number of anchors that have no negatives in this mining and keep their previous negatives.
        seconds: Time for embedding and mining; 0 if the weights have not changed since the last mining.
    """

    negatives: int
    score: float
    positive_score: float
    changed: float
    filled: int
    kept: int
    seconds: float


class Miner:
    """Mines the same pairs under the same conditions with a model that changes.

    Args:
        pairs: Queries, passages and exclusions.
        conditions: Arguments of :class:`~relkt.mining.MiningConditions`.
        threads: Number of threads of the search.
        batch_size: Number of texts to embed at a time.
        query_prompt: Text to put before anchors; None for the model's prompt.
        passage_prompt: Text to put before passages; None for the model's prompt.

    Attributes:
        conditions: The conditions, checked.
        places: Maximum number of negatives per query.
        used: (q,) bool, True if the first mining found a negative for the query. Later minings ignore queries for which
            it found none.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        pairs: MiningPairs,
        conditions: ConditionArgs,
        *,
        threads: int | None,
        batch_size: int,
        query_prompt: str | None,
        passage_prompt: str | None,
    ) -> None:
        for name, prompt in (("query_prompt", query_prompt), ("passage_prompt", passage_prompt)):
            if prompt is not None and not isinstance(prompt, str):
                raise TypeError(f"{name}: expected a text or None, got {prompt!r}")
        self._pairs, self._query_prompt, self._passage_prompt = pairs, query_prompt, passage_prompt
        self._threads = as_threads(threads)
        self._batch_size = as_count("batch_size", batch_size, "of at least 1", least=1)
        self.conditions = MiningConditions(**conditions)
        passages = len(pairs.distinct.passages)
        for name in ("num_negatives", "num_hard", "num_semi_hard"):
            if conditions.get(name) is not None and getattr(self.conditions, name) > passages:
                raise ArgumentError(
                    name, f"at most {passages}, the number of distinct passages", getattr(self.conditions, name)
                )
        self.places = self.conditions.num_negatives + self.conditions.num_hard + self.conditions.num_semi_hard
        self.used: NDArray[np.bool_] = np.ones(len(pairs.distinct.queries), dtype=np.bool_)
        self._last: tuple[str, int, Remined] | None = None

    def mine(self, model: SentenceTransformer, epoch: int, before: Rows, *, show: bool) -> tuple[Remined, Rows]:
        """Mines, unless weights and seed are unchanged since the last mining.

        Args:
            model: Embeds the texts; its mode and all random states are restored.
            epoch: From 0; added to the seed.
            before: (q, places) int64, the current negatives; (0, places) before the first mining.
            show: Show progress bars.

        Returns:
            The result, and (q, places) int64, the row of each negative; -1 for queries that are not ``used``.
        """
        weights, seed = model_checksum(model), (self.conditions.seed + epoch) % 2**64
        if self._last is not None and self._last[:2] == (weights, seed):
            return replace(self._last[2], seconds=0.0), before
        start = time.perf_counter()
        mined = self._found(model, seed, f"epoch {epoch + 1}", show)
        rows = np.concatenate([mined.indices, mined.hard_indices, mined.semi_hard_indices], axis=1)
        scores = np.concatenate([mined.scores, mined.hard_scores, mined.semi_hard_scores], axis=1)
        rows, scores = without_repeats(rows, scores)
        if not len(before):
            self.used[:] = (rows >= 0).any(axis=1)
        rows[~self.used] = -1
        found = rows >= 0
        counts = found.sum(axis=1)
        changed = found.copy() if not len(before) else found & ~(rows[:, :, None] == before[:, None, :]).any(axis=2)
        total = int(counts.sum())
        remined = Remined(
            negatives=total,
            score=_mean(scores[found]),
            positive_score=_mean(mined.positive_scores[self.used]),
            changed=round(float(changed.sum()) / total, 4) if total else 0.0,
            filled=int((rows.shape[1] - counts[counts > 0]).sum()),
            kept=int(((counts == 0) & self.used).sum()),
            seconds=round(time.perf_counter() - start, 3),
        )
        rows = filled(rows)
        if len(before):
            rows = np.where(counts[:, None] > 0, rows, before)
        self._last = weights, seed, remined
        return remined, rows

    def forget(self) -> None:
        """Makes the next :meth:`mine` run in any case, because the current negatives come from a checkpoint."""
        self._last = None

    def _found(self, model: SentenceTransformer, seed: int, when: str, show: bool) -> MinedNegatives:
        pairs, exclusions = self._pairs.distinct, self._pairs.exclusions
        texts = len(pairs.queries) + len(pairs.passages)
        with _restored(model), original_forward(model):
            with tqdm(total=texts, desc=f"Embedding, {when}", unit="text", leave=False, disable=not show) as bar:
                embed = {"batch_size": self._batch_size, "progress": bar.update}
                queries = encode_queries(model, pairs.queries, prompt=self._query_prompt, **embed)
                passages = encode_passages(model, pairs.passages, prompt=self._passage_prompt, **embed)
            with tqdm(total=len(queries), desc=f"Mining, {when}", unit="query", leave=False, disable=not show) as bar:
                return mine_from(
                    0,
                    queries,
                    passages,
                    exclusions.positives,
                    conditions=replace(self.conditions, seed=seed),
                    groups=exclusions.groups,
                    exclude=exclusions.exclude,
                    threads=self._threads,
                    progress=bar.update,
                )


def without_repeats(rows: Rows, scores: NDArray[np.float32]) -> tuple[Rows, NDArray[np.float32]]:
    """Removes repeated negatives from each row and shifts the others left; empty places become -1, their scores NaN."""
    left = rows < 0
    for place in range(1, rows.shape[1]):
        left[:, place] |= (rows[:, :place] == rows[:, place : place + 1]).any(axis=1)
    order = np.argsort(left, axis=1, kind="stable")
    rows, scores = np.where(left, -1, rows), np.where(left, np.float32(np.nan), scores)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def filled(rows: Rows) -> Rows:
    """Fills the empty places of each row by repeating the row's own negatives in turn."""
    counts = np.maximum((rows >= 0).sum(axis=1, keepdims=True), 1)
    return np.take_along_axis(rows, np.arange(rows.shape[1])[None, :] % counts, axis=1)


def _mean(scores: NDArray[np.float32]) -> float:
    return round(float(scores.mean(dtype=np.float64)), 6) if scores.size else float("nan")


@contextmanager
def _restored(model: SentenceTransformer) -> Iterator[None]:
    """At the end of the context, restores the mode of every module and every random state."""
    modes = [(module, module.training) for module in model.modules()]
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    device = model.device
    with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)
