"""Mining of negatives for each query, inside the exact search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from relkt._relkt import Passages, check_queries
from relkt.arrays import Embeddings, as_count, as_rows, as_threads, check_rows, is_tensor, to_core, without_tensor
from relkt.errors import ArgumentError
from relkt.index import Index
from relkt.mining.conditions import ConditionArgs, MiningConditions, shows_conditions
from relkt.mining.results import Backend, Job, MinedNegatives, Results
from relkt.mining.rows import Groups, RowLists

if TYPE_CHECKING:
    import torch

    Rows: TypeAlias = Embeddings | torch.Tensor
else:
    Rows: TypeAlias = Embeddings

Lists: TypeAlias = NDArray[np.integer[Any]] | Sequence[Sequence[int]] | Sequence[NDArray[np.integer[Any]]]
Progress = Callable[[int], None]

_MAX_CANDIDATES = 1 << 22
"""Maximum number of candidates of a block of queries. They take a few hundred MiB with all intermediate arrays."""


@shows_conditions
def mine(
    queries: Rows,
    passages: Rows | Index,
    positives: Lists | Sequence[int] | None = None,
    *,
    groups: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    exclude: Lists | None = None,
    block_size: int = 4096,
    progress: Progress | None = None,
    threads: int | None = None,
    **conditions: Unpack[ConditionArgs],
) -> MinedNegatives:
    """Mines negatives for every query, in one exact pass over the passages.

    A query's candidates are all passages except its positives, near-duplicates of the positives, passages in the groups
    of the positives, and excluded passages. The search applies all conditions itself, so a query gets fewer negatives
    only if no more candidates exist. Scores are cosines, as exact as those of :func:`relkt.search`; candidates are
    ranked by score, ties by row. Below, s_p is the lowest score among a query's positives.

    Args:
        queries: (q, d) float32 or float16, of any norm: an array or a torch tensor.
        passages: (n, d), like ``queries``, or an :class:`~relkt.Index`, whose rows are counted by their position. An
            array in C order is not copied: until this function returns, no thread may write to it or free it
            (``resize(refcheck=False)``). A CUDA tensor is mined on its GPU, with equal results.
        positives: Rows of each query's positives: a 1-D array (one per query), a 2-D array (several), or a list for
            each query, which may be empty if no condition depends on positives. Default: none.
        groups: (n,) The group (document) of each passage, any integers; passages in a positive's group are excluded.
            Default: no groups.
        exclude: Rows to exclude, for each query; in a 2-D array, -1 means no row, so ``indices`` of an earlier result
            can be passed. Default: none.
        num_negatives: Maximum number of negatives per query. Default: 3, or 0 if ``num_hard`` or ``num_semi_hard`` is
            given.
        strategy: ``"top"`` takes the highest-scoring candidates of the range, ``"random"`` a uniform random sample.
            Default: ``"top"``.
        range_min: Number of top-ranked candidates to skip. Default: 0.
        range_max: Rank of the last candidate to consider. Default: no limit for ``"top"``, ``range_min`` + 10
            ``num_negatives`` for ``"random"``.
        min_score: Minimum score of a negative, -1 to 1. Default: none.
        max_score: Maximum score of a negative, -1 to 1; e.g. to exclude near-duplicates of the query. Default: none.
        absolute_margin: Negatives score at most s_p - ``absolute_margin``, -2 to 2. Default: no limit.
        relative_margin: Negatives score at most s_p - \\|s_p\\| ``relative_margin``, -2 to 2; 0.05 is "TopK-PercPos
            (95%)" of NV-Retriever (Moreira et al., 2024). Default: no limit.
        num_hard: Maximum number of hard negatives per query, which score above s_p. ``min_score``, ``max_score`` and
            ``max_positive_similarity`` apply to hard and semi-hard negatives; margins and ranges do not. Default: 0.
        num_semi_hard: Maximum number of semi-hard negatives per query, which score between s_p - ``margin`` and s_p,
            both exclusive. Default: 0.
        margin: Width of the semi-hard window as a difference of cosines, 0 to 2; only with ``num_semi_hard``.
            Default: 0.1.
        max_positive_similarity: Maximum cosine of a negative with any of the query's positives, -1 to 1; excludes
            near-duplicates of positives, in other documents too. Default: no limit.
        seed: Seed of ``"random"``; a query's sample depends only on the seed, the query's position and its number of
            candidates. Default: 0.
        block_size: Maximum number of queries to mine at a time. Besides arguments and result, memory holds the
            passages' codes (a quarter of float32 rows) and the candidates of a block. Default: 4096.
        progress: Called with the number of queries finished since the last call.
        threads: Number of CPU threads. Default: all that the process may use.

    Returns:
        :class:`MinedNegatives`.

    Raises:
        TypeError: If an array has the wrong dtype or number of dimensions, an argument has the wrong type, or a
            condition is unknown.
        ValueError: If sizes do not match, a row or number is out of range, a condition depends on positives and a query
            lacks them, the number of negatives requested is 0, or an embedding is all zeros or not finite.

    Reference:
        Hard and semi-hard negatives: CL-ReLKT (Limkonchotiwat et al., 2022), section 2.1, and the authors'
        ``negative_mining``, which uses distances 1 - s and one positive. relkt also allows several positives, with
        the lowest of their scores as s_p.
    """
    return mine_from(
        0,
        queries,
        passages,
        positives,
        conditions=MiningConditions(**conditions),
        groups=groups,
        exclude=exclude,
        block_size=block_size,
        progress=progress,
        threads=threads,
    )


def mine_from(
    first_query: int,
    queries: Rows,
    passages: Rows | Index,
    positives: Lists | Sequence[int] | None,
    *,
    conditions: MiningConditions,
    groups: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    exclude: Lists | None = None,
    block_size: int = 4096,
    progress: Progress | None = None,
    threads: int | None = None,
) -> MinedNegatives:
    """:func:`mine` for a slice of the queries; random samples are the same as in one call with all queries.

    Args:
        first_query: Position of the first of ``queries`` among all queries.
        queries: See :func:`mine`, also for the arguments below.
        passages: The passages to mine.
        positives: For each of ``queries``.
        conditions: The conditions.
        groups: The group of each passage.
        exclude: Rows to exclude, for each of ``queries``.
        block_size: Maximum number of queries to mine at a time.
        progress: Called with the number of queries finished since the last call.
        threads: Number of CPU threads.
    """
    threads = as_threads(threads)
    block_size = as_count("block_size", block_size, "of at least 1", least=1)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function of a number of queries, got {progress!r}")
    rows, size, dim = _passages(passages)
    found = _checked("queries", queries)
    answers = RowLists.none(len(found))
    if positives is None:
        _expect_no_positives(groups=groups, max_positive_similarity=conditions.max_positive_similarity)
    else:
        answers = RowLists.of("positives", positives, len(found), size, single=True)
    if conditions.depends_on_positives and (answers.counts == 0).any():
        query = int(np.flatnonzero(answers.counts == 0)[0])
        raise ValueError(
            f"positives: query {query} has none; margins, hard and semi-hard negatives need at least one"  # plain: ok
        )
    job = Job(
        conditions=conditions,
        positives=answers,
        exclude=None if exclude is None else RowLists.of("exclude", exclude, len(found), size, single=False),
        groups=None if groups is None else Groups.of(_groups(groups, size)),
        passages=size,
        first_query=first_query,
    )
    if found.shape[1] != dim:
        raise ValueError(f"queries: expected dimension {dim} like the passages, got {found.shape[1]}")
    backend, found = _backend(rows, found, threads)
    results = Results(conditions, len(found))
    block_size = min(block_size, max(1, _MAX_CANDIDATES // conditions.max_ranks(size)))
    for start in range(0, len(found), block_size):
        stop = min(start + block_size, len(found))
        results.put(start, stop, job, backend, found[start:stop], threads)
        if progress is not None:
            progress(stop - start)
    return results.finished()


def _checked(name: str, rows: Any) -> Any:
    """Checks type and shape of embeddings; returns the array, or the tensor detached."""
    if not is_tensor(rows):
        return check_rows(name, rows)
    import torch

    if rows.dtype not in (torch.float32, torch.float16):
        raise TypeError(f"{name}: expected dtype float32 or float16, got {rows.dtype}")
    if rows.ndim != 2:
        raise TypeError(f"{name}: expected 2 dimensions (rows, columns), got shape {tuple(rows.shape)}")
    return rows.detach()


def _passages(passages: Any) -> tuple[Any, int, int]:
    """The passages to mine, their number and their dimension."""
    if isinstance(passages, Index):
        snapshot = passages._passages.snapshot()
        return snapshot, snapshot.rows, snapshot.dim
    rows = _checked("passages", passages)
    if 0 in rows.shape:
        raise ValueError(f"passages: expected at least one row and one column, got shape {tuple(rows.shape)}")
    return rows, *rows.shape


def _backend(passages: Any, queries: Any, threads: int | None) -> tuple[Backend, Any]:
    """The backend, and the queries in its format."""
    if is_tensor(passages) and passages.is_cuda:
        from relkt.mining.torch_backend import TorchPassages

        on_device = TorchPassages(passages)
        return on_device, on_device.queries(queries)
    prepared = to_core(as_rows("queries", without_tensor(queries)))
    check_queries(prepared, threads)
    if isinstance(passages, Passages):
        return passages, prepared
    return Passages.borrow(to_core(as_rows("passages", without_tensor(passages))), threads), prepared


def _expect_no_positives(**conditions: Any) -> None:
    for name, value in conditions.items():
        if value is not None:
            raise ArgumentError(name, problem="expected only with positives, got no positives")


def _groups(groups: Any, passages: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(without_tensor(groups))
    except ValueError as error:
        raise TypeError(f"groups: expected a 1-D array of integers, got {type(groups).__name__} ({error})") from None
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"groups: expected a 1-D array of integers, got shape {array.shape} of {array.dtype}; "
            "np.unique(groups, return_inverse=True)[1] numbers groups of any kind"
        )
    if len(array) != passages:
        raise ValueError(f"groups: expected {passages} values, one for each passage, got {len(array)}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError("groups: expected numbers below 2**63")
    return array.astype(np.int64)
