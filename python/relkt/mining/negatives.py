"""Negatives of each query, mined inside the exact search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relkt._relkt import Passages, check_queries
from relkt.arrays import Embeddings, as_count, as_rows, as_threads, check_rows, is_tensor, to_border, without_tensor
from relkt.index import Index
from relkt.mining.conditions import Conditions, Strategy
from relkt.mining.results import Backend, Job, MinedNegatives, Results
from relkt.mining.rows import Groups, RowLists

if TYPE_CHECKING:
    import torch

    Rows: TypeAlias = Embeddings | torch.Tensor
else:
    Rows: TypeAlias = Embeddings

Lists: TypeAlias = NDArray[np.integer[Any]] | Sequence[Sequence[int]] | Sequence[NDArray[np.integer[Any]]]
Progress = Callable[[int], None]

_MOST_CANDIDATES = 1 << 22
"""Candidates of a block of queries, at most: a few hundred MiB with all that is made of them."""


def mine(
    queries: Rows,
    passages: Rows | Index,
    positives: Lists | Sequence[int] | None = None,
    *,
    num_negatives: int | None = None,
    strategy: Strategy | str = Strategy.TOP,
    range_min: int = 0,
    range_max: int | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_hard: int = 0,
    num_semi_hard: int = 0,
    margin: float | None = None,
    groups: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    exclude: Lists | None = None,
    max_positive_similarity: float | None = None,
    seed: int = 0,
    block_size: int = 4096,
    progress: Progress | None = None,
    threads: int | None = None,
) -> MinedNegatives:
    """Mines negatives for every query, in one exact pass over the passages.

    A passage is a candidate of a query unless it is one of its positives, excluded, of the group of a positive, or a
    near-duplicate of one. All conditions hold inside the search: nothing is fetched first and filtered afterwards, so a
    query gets its negatives whenever there are candidates. Scores are cosines, as exact as those of
    :func:`relkt.search`; candidates are ranked by score, and equal ones by row. s_p below is the lowest score among a
    query's positives.

    Args:
        queries: (q, d) float32 or float16, of any norm: an array or a torch tensor.
        passages: (n, d) the same, or an :class:`~relkt.Index`, whose rows then count by their position in it. An array
            in C order is not copied: until this returns, no thread may write to it or free it
            (``resize(refcheck=False)``). A CUDA tensor is mined on its GPU, with equal results.
        positives: The row of each query's positive, several rows for each in two dimensions, or a list of rows for
            each query, which may be empty where no condition speaks of positives. Default: none.
        num_negatives: Negatives for each query, at most. Default 3, or 0 if ``num_hard`` or ``num_semi_hard`` is given.
        strategy: ``"top"``: the best of the range; ``"random"``: drawn from it, every choice as likely as any other.
        range_min: So many of the best candidates are passed over. Default 0.
        range_max: Candidates beyond this rank do not count. Default: none such for ``"top"``; ``range_min`` + 10
            ``num_negatives`` for ``"random"``.
        min_score: Candidates score at least this, -1 to 1.
        max_score: Candidates score at most this, -1 to 1: one way to leave out near-duplicates of the query.
        absolute_margin: Candidates score at most s_p - ``absolute_margin``, -2 to 2.
        relative_margin: Candidates score at most s_p - \\|s_p\\| ``relative_margin``, -2 to 2; .05 is the "TopK-PercPos
            (95%)" of NV-Retriever (Moreira et al., 2024).
        num_hard: Hard negatives for each query, at most: candidates that score above s_p. Margins and ranges do not
            apply to these and the next, ``min_score`` and ``max_score`` do. Default 0.
        num_semi_hard: Semi-hard negatives for each query, at most: s_p - ``margin`` < s < s_p. Default 0.
        margin: Width of the semi-hard window as a difference of cosines, 0 to 2; only with ``num_semi_hard``.
            Default 0.1.
        groups: (n,) The group (document) of each passage, any integers; passages of a positive's group are no
            candidates. Default: no groups.
        exclude: For each query, further rows that are no candidates; in two dimensions, -1 stands for none, as in
            ``indices`` of an earlier result.
        max_positive_similarity: Passages whose cosine with one of the query's positives is above this are
            near-duplicates of it, and no candidates.
        seed: Of the draw; the draw of a query depends on it, on the query's position and on the number of its
            candidates only. Default 0.
        block_size: Queries mined at a time, at most; fewer, if very many candidates are ranked for each. Beside
            arguments and result, memory is that of the passages' codes (a quarter of float32 rows) and of these
            candidates. Default 4096.
        progress: Called with the number of queries finished since the last call.
        threads: Threads to use on the CPU; default: all that the process may use.

    Returns:
        :class:`MinedNegatives`.

    Raises:
        TypeError: If an array has the wrong dtype or number of dimensions, or a number or row is none.
        ValueError: If sizes do not fit together, a row is out of range, a condition speaks of positives and a query has
            none, a number is out of its range, nothing is asked for, or an embedding is not finite or all zeros.

    Reference:
        Hard and semi-hard negatives: CL-ReLKT (Limkonchotiwat et al., 2022), section 2.1, and the authors'
        ``negative_mining``, which works with distances 1 - s and one positive. We depart in taking the lowest score of
        several positives as s_p.
    """
    return mine_from(
        0,
        queries,
        passages,
        positives,
        conditions={
            "num_negatives": num_negatives,
            "strategy": strategy,
            "range_min": range_min,
            "range_max": range_max,
            "min_score": min_score,
            "max_score": max_score,
            "absolute_margin": absolute_margin,
            "relative_margin": relative_margin,
            "num_hard": num_hard,
            "num_semi_hard": num_semi_hard,
            "margin": margin,
            "max_positive_similarity": max_positive_similarity,
            "seed": seed,
        },
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
    conditions: Mapping[str, Any],
    groups: NDArray[np.integer[Any]] | Sequence[int] | None = None,
    exclude: Lists | None = None,
    block_size: int = 4096,
    progress: Progress | None = None,
    threads: int | None = None,
) -> MinedNegatives:
    """:func:`mine` for some of many queries; random draws are those of one call with all of them.

    Args:
        first_query: Position of the first of ``queries`` among all.
        queries: As for :func:`mine`, and so are the others.
        passages: What to mine from.
        positives: Of these queries.
        conditions: The arguments of :func:`mine` that :meth:`Conditions.checked` takes.
        groups: The group of each passage.
        exclude: For each of these queries, rows that are no candidates.
        block_size: Queries mined at a time.
        progress: Told of queries finished.
        threads: Threads to use.
    """
    threads = as_threads(threads)
    block_size = as_count("block_size", block_size, "of at least 1", least=1)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress: expected a function of a number of queries, got {progress!r}")
    rows, size, dim = _passages(passages)
    found = _checked("queries", queries)
    checked = Conditions.checked(**conditions)
    answers = RowLists.none(len(found))
    if positives is None:
        _expect_no_positives(groups=groups, max_positive_similarity=checked.max_positive_similarity)
    else:
        answers = RowLists.of("positives", positives, len(found), size, single=True)
    if checked.depends_on_positives and (answers.counts == 0).any():
        query = int(np.flatnonzero(answers.counts == 0)[0])
        raise ValueError(f"positives: query {query} has none; margins, hard and semi-hard negatives need at least one")
    job = Job(
        conditions=checked,
        positives=answers,
        exclude=None if exclude is None else RowLists.of("exclude", exclude, len(found), size, single=False),
        groups=None if groups is None else Groups.of(_groups(groups, size)),
        passages=size,
        first_query=first_query,
    )
    if found.shape[1] != dim:
        raise ValueError(f"queries: expected dimension {dim} like the passages, got {found.shape[1]}")
    backend, found = _backend(rows, found, threads)
    results = Results(checked, len(found))
    block_size = min(block_size, max(1, _MOST_CANDIDATES // checked.most_ranks(size)))
    for start in range(0, len(found), block_size):
        stop = min(start + block_size, len(found))
        results.put(start, stop, job, backend, found[start:stop], threads)
        if progress is not None:
            progress(stop - start)
    return results.finished()


def _checked(name: str, rows: Any) -> Any:
    """The same rows, if they are an array or a tensor that embeddings can be."""
    if not is_tensor(rows):
        return check_rows(name, rows)
    import torch

    if rows.dtype not in (torch.float32, torch.float16):
        raise TypeError(f"{name}: expected dtype float32 or float16, got {rows.dtype}")
    if rows.ndim != 2:
        raise TypeError(f"{name}: expected 2 dimensions (rows, columns), got shape {tuple(rows.shape)}")
    return rows.detach()


def _passages(passages: Any) -> tuple[Any, int, int]:
    """What to mine from, its rows and its columns."""
    if isinstance(passages, Index):
        now = passages._passages.snapshot()
        return now, now.rows, now.dim
    rows = _checked("passages", passages)
    if 0 in rows.shape:
        raise ValueError(f"passages: expected at least one row and one column, got shape {tuple(rows.shape)}")
    return rows, *rows.shape


def _backend(passages: Any, queries: Any, threads: int | None) -> tuple[Backend, Any]:
    """Who mines, and the queries as it takes them."""
    if is_tensor(passages) and passages.is_cuda:
        from relkt.mining.torch_backend import TorchPassages

        on_device = TorchPassages(passages)
        return on_device, on_device.queries(queries)
    border = to_border(as_rows("queries", without_tensor(queries)))
    check_queries(border, threads)
    if isinstance(passages, Passages):
        return passages, border
    return Passages.borrow(to_border(as_rows("passages", without_tensor(passages))), threads), border


def _expect_no_positives(**conditions: Any) -> None:
    for name, value in conditions.items():
        if value is not None:
            raise ValueError(f"{name}: expected only with positives, which it is about, got none")


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
