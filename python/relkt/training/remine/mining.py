"""One mining: embed, mine, count."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from relkt.arrays import as_count, as_threads
from relkt.encoders import encode_passages, encode_queries, model_checksum
from relkt.mining import MinedNegatives, mine
from relkt.mining.conditions import Conditions
from relkt.training.model.precision import original_forward
from relkt.training.remine.pairs import MiningPairs

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Remined:
    """What one mining found; in ``trainer.state.log_history`` with ``remine_`` before each name.

    Anchors that were left out when the callback was made count nowhere.

    Attributes:
        negatives: Distinct negatives, summed over the anchors.
        score: Their mean cosine with their anchor.
        positive_score: The mean cosine of the anchors with their (lowest) positive.
        changed: Share of the negatives that were not among those of the same anchor before; 1 the first time.
        filled: Places of the columns that repeat a negative of the same anchor, as there are too few of them.
        kept: Anchors without any negative this time, which keep those they had.
        seconds: Time for embedding and mining; 0 where the weights were still those of the last mining.
    """

    negatives: int
    score: float
    positive_score: float
    changed: float
    filled: int
    kept: int
    seconds: float


class Miner:
    """Mines the same pairs under the same conditions, with a model as it is at the time.

    Args:
        pairs: What to mine with and from.
        conditions: As :meth:`Conditions.checked` takes them.
        threads: Threads of the search.
        batch_size: Texts embedded at once.
        query_prompt: Put before anchors; None for the model's.
        passage_prompt: The same for passages.

    Attributes:
        conditions: Checked.
        places: Negatives of each query, at most.
        used: (q,) bool, whether the first mining found any negative for a query; no later one does for the others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of its range.
    """

    def __init__(
        self,
        pairs: MiningPairs,
        conditions: Mapping[str, Any],
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
        self.conditions = Conditions.checked(**conditions)
        most = len(pairs.distinct.passages)
        for name in ("num_negatives", "num_hard", "num_semi_hard"):
            if conditions[name] is not None and conditions[name] > most:
                raise ValueError(
                    f"{name}: expected at most {most}, the number of distinct passages, got {conditions[name]}"
                )
        self._given = dict(conditions)
        self.places = self.conditions.num_negatives + self.conditions.num_hard + self.conditions.num_semi_hard
        self.used: NDArray[np.bool_] = np.ones(len(pairs.distinct.queries), dtype=np.bool_)
        self._last: tuple[str, int, Remined] | None = None

    def mine(self, model: SentenceTransformer, epoch: int, before: Rows, *, show: bool) -> tuple[Remined, Rows]:
        """Mines, unless weights and seed are those of the last time.

        Args:
            model: What embeds; its mode and all random states are left as they are.
            epoch: From 0; moves the seed.
            before: (q, places) int64, the negatives in use; (0, places) for none.
            show: Whether to show progress bars.

        Returns:
            What was found, and (q, places) int64, the row of each negative; -1 where the first mining found none.
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
        """Mines the next time in any case: the negatives in use are not those of the last mining."""
        self._last = None

    def _found(self, model: SentenceTransformer, seed: int, when: str, show: bool) -> MinedNegatives:
        pairs, candidacy = self._pairs.distinct, self._pairs.candidacy
        texts = len(pairs.queries) + len(pairs.passages)
        with _untouched(model), original_forward(model):
            with tqdm(total=texts, desc=f"Embedding, {when}", unit="text", leave=False, disable=not show) as bar:
                embed = {"batch_size": self._batch_size, "progress": bar.update}
                queries = encode_queries(model, pairs.queries, prompt=self._query_prompt, **embed)
                passages = encode_passages(model, pairs.passages, prompt=self._passage_prompt, **embed)
            with tqdm(total=len(queries), desc=f"Mining, {when}", unit="query", leave=False, disable=not show) as bar:
                return mine(
                    queries,
                    passages,
                    candidacy.positives,
                    groups=candidacy.groups,
                    exclude=candidacy.exclude,
                    threads=self._threads,
                    progress=bar.update,
                    **{**self._given, "seed": seed},
                )


def without_repeats(rows: Rows, scores: NDArray[np.float32]) -> tuple[Rows, NDArray[np.float32]]:
    """Each row's negatives once, the first places filled first; -1 and NaN in those that are left."""
    left = rows < 0
    for place in range(1, rows.shape[1]):
        left[:, place] |= (rows[:, :place] == rows[:, place : place + 1]).any(axis=1)
    order = np.argsort(left, axis=1, kind="stable")
    rows, scores = np.where(left, -1, rows), np.where(left, np.float32(np.nan), scores)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def filled(rows: Rows) -> Rows:
    """The places that are left, filled with the row's own negatives in turn."""
    counts = np.maximum((rows >= 0).sum(axis=1, keepdims=True), 1)
    return np.take_along_axis(rows, np.arange(rows.shape[1])[None, :] % counts, axis=1)


def _mean(scores: NDArray[np.float32]) -> float:
    return round(float(scores.mean(dtype=np.float64)), 6) if scores.size else float("nan")


@contextmanager
def _untouched(model: SentenceTransformer) -> Iterator[None]:
    """Afterwards every module is in the mode it was in, and every random state is what it was."""
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
