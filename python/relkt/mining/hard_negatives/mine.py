"""Hard negatives for a data set of pairs: the call of sentence-transformers, on the exact miner."""

from __future__ import annotations

import logging
import os
import random
from typing import TYPE_CHECKING, Any, Literal

from datasets import Dataset

from relkt.arrays import as_count, as_threads
from relkt.mining.conditions import as_number
from relkt.mining.hard_negatives.embeddings import Encoding, embed
from relkt.mining.hard_negatives.formats import (
    FORMATS,
    OutputFormat,
    format_negatives,
    new_columns,
    print_statistics,
    say,
)
from relkt.mining.hard_negatives.pairs import Pairs, read_pairs
from relkt.mining.hard_negatives.selection import (
    Searched,
    SelectionRule,
    rescored,
    select_inside,
    select_ranked,
)

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

logger = logging.getLogger(__name__)

_MOST_QUERIES = 4096  # in a block of the search


def mine_hard_negatives(
    dataset: Dataset,
    model: SentenceTransformer,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    cross_encoder: CrossEncoder | None = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: OutputFormat = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,  # noqa: ARG001 - part of the call
    use_multi_process: list[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | os.PathLike[str] | None = None,
    as_triplets: bool | None = None,
    margin: float | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
) -> Dataset:
    """Adds hard negatives to pairs of an anchor and a positive.

    The same call as ``sentence_transformers.util.mine_hard_negatives`` of version 6, whichever version is installed,
    with the same data set as its result wherever that is the true answer. The difference: sentence-transformers takes
    the best candidates first and applies the conditions to these afterwards, so strict conditions leave queries without
    negatives. Here the conditions hold inside the search. So, with ``range_max`` left out:

    - "top": a query has fewer than ``num_negatives`` only if the corpus has no more that meet the conditions.
    - "random": negatives are drawn among the same options, in the same way, so that after the same ``random.seed`` they
      are the same. Queries with fewer options than ``num_negatives`` get the best passages that meet the conditions.

    Where lists of candidates are part of the meaning, they have it as in sentence-transformers, and may run out: with
    ``range_max`` given, ``include_positives``, or a ``cross_encoder`` that is used. Then candidates are the best
    ``range_max`` + (most positives of an anchor) passages, positives among them.

    Every text counts once, in the corpus and among the anchors. All positives of an anchor are no negatives of it, and
    margins are kept from the one of them that scores lowest. Scores are exact cosines, rounded to float32 once; equal
    ones are in the order of the corpus. An embedding of zeros scores 0.

    Args:
        dataset: Pairs of texts. Rows with the same anchor are its positives.
        model: Encodes anchors (``encode_query``) and passages (``encode_document``). Its similarity is cosine or dot,
            which are the same, as embeddings are normalised.
        anchor_column_name: Column of the anchors; default: the first. A name that there is not means the default, with
            a warning.
        positive_column_name: Column of the positives; default: the second; likewise.
        corpus: Further passages that may be negatives. Default: the positives only.
        cross_encoder: Scores the candidates anew. Used only with at least one of ``max_score``, ``min_score``,
            ``absolute_margin``, ``relative_margin``, which then mean its scores.
        range_min: So many of the best candidates that meet the conditions are passed over; at least 0. Default 0.
        range_max: Only the best ``range_max`` candidates count. At least ``range_min + num_negatives``. Default: no
            limit for "top"; elsewhere ``range_min + 10 * num_negatives`` with a margin or ``max_score`` (or
            ``min_score`` for a cross-encoder), otherwise ``range_min + num_negatives``, plus the most positives of an
            anchor.
        max_score: Highest score of a negative. Default: any.
        min_score: Lowest score of a negative. Default: any.
        absolute_margin: A negative scores at most the lowest positive's score less this. Default: any.
        relative_margin: A negative scores at most the lowest positive's score less this share of its magnitude.
            Default: any.
        num_negatives: Negatives for each anchor, at least 1. Default 3.
        sampling_strategy: "top": the best candidates; "random": drawn from those that meet the conditions. Negatives
            are in the order of their scores in both.
        query_prompt_name: Name of the model's prompt for anchors. Default: what the model has for queries.
        query_prompt: A prompt itself, put before every anchor; goes before ``query_prompt_name``.
        corpus_prompt_name: Name of the model's prompt for passages. Default: what the model has for documents.
        corpus_prompt: A prompt itself, put before every passage; goes before ``corpus_prompt_name``.
        include_positives: Positives may be among the "negatives", for data sets of rankings. Makes the format
            "n-tuple".
        output_format: See Returns.
        output_scores: Give scores, those of ``cross_encoder`` if it is used. Default: no.
        batch_size: Texts, or pairs for the cross-encoder, in a batch. Default 32.
        faiss_batch_size: Most queries searched at a time. Default 16384.
        use_faiss: Accepted and without effect: the search is always relkt's, which is exact.
        use_multi_process: Encode in processes: one for each GPU, or four where there is none, or a list of devices.
        verbose: Print statistics and show progress. Default: yes. Of the lines "Skipped ..." with conditions that hold
            inside the search, each counts all passages of the corpus above the upper limit of a query, for the tightest
            of its limits; passages below ``min_score`` are not counted.
        cache_folder: Where embeddings are kept in files that name a hash of model name, prompt and texts:
            ``query_embeddings_{hash}.npy`` and ``corpus_embeddings_{hash}.npy``, the same as sentence-transformers'.
        as_triplets: Deprecated: means ``output_format`` "triplet" if true, otherwise "n-tuple".
        margin: Deprecated: means ``absolute_margin``.
        seed: For "random". Default: Python's global ``random`` draws, as with sentence-transformers.
        threads: Threads of the search; default: all that the process may use.

    Returns:
        A ``datasets.Dataset`` whose first two columns have the names of those of ``dataset``, ordered by the first
        appearance of anchors and of their positives, by ``output_format``:

        - "triplet": anchor, positive, ``negative``; a row for each negative of each positive. Scores: ``scores``, that
          of the positive and that of the negative.
        - "n-tuple": anchor, positive, ``negative_1``, ...; a row for each positive, if its anchor has all
          ``num_negatives``. Scores: ``scores``, of the positive and all negatives.
        - "labeled-pair": anchor, passage, ``label`` 1 (positive) or 0; a row for each positive and each negative.
          Scores: ``score`` instead of ``label``.
        - "labeled-list": anchor, list of passages, positive first, and list ``labels``; a row for each positive whose
          anchor has a negative. Scores: ``scores`` instead of ``labels``.

    Raises:
        TypeError: If ``dataset`` is no ``datasets.Dataset``, a text is no text, or a number is none.
        ValueError: If ``dataset`` is empty or has fewer than two columns, a text is missing, a number is out of its
            range, ``range_max`` leaves fewer than ``num_negatives``, a name is not one of those listed, a column would
            have the name of another, the model's similarity is neither cosine nor dot, or an embedding is not finite.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset: expected a datasets.Dataset, got {type(dataset).__name__}")
    if len(dataset) == 0:
        raise ValueError("dataset: expected at least one row, got none")
    names = _column_names(dataset, anchor_column_name, positive_column_name)
    if margin is not None:
        absolute_margin = margin
        logger.warning(
            "The `margin` parameter is deprecated. Use `absolute_margin` and/or `relative_margin` instead. "
            "Setting `absolute_margin` to `%s`.",
            margin,
        )
    limits = {
        "max_score": as_number("max_score", max_score),
        "min_score": as_number("min_score", min_score),
        "absolute_margin": as_number("absolute_margin", absolute_margin),
        "relative_margin": as_number("relative_margin", relative_margin),
    }
    limited = any(limit is not None for limit in limits.values())
    if include_positives and (limited or range_min != 0 or range_max is not None or sampling_strategy != "top"):
        logger.warning(
            "When using `include_positives=True`, `range_min`, `range_max`, `max_score`, `min_score`, "
            "`absolute_margin`, `relative_margin` or `sampling_strategy` other than the defaults may still discard "
            "the positives."
        )
    output_format, output_scores = _format(output_format, output_scores, as_triplets, include_positives)
    if sampling_strategy not in ("top", "random"):
        raise ValueError(f"sampling_strategy: expected 'top' or 'random', got {sampling_strategy!r}")
    num_negatives = as_count("num_negatives", num_negatives, "of at least 1", least=1)
    range_min = as_count("range_min", range_min, "of at least 0", least=0)
    if range_max is not None:
        range_max = as_count("range_max", range_max, "of at least 1", least=1)
        if range_max - range_min < num_negatives:
            raise ValueError(
                f"range_max: expected at least range_min + num_negatives = {range_min + num_negatives}, got {range_max}"
            )
    low, high = limits["min_score"], limits["max_score"]
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_score: expected at most max_score = {high}, got {low}")
    batch_size = as_count("batch_size", batch_size, "of at least 1", least=1)
    faiss_batch_size = as_count("faiss_batch_size", faiss_batch_size, "of at least 1", least=1)
    threads = as_threads(threads)
    _check_new_names(names, new_columns(output_format, num_negatives, output_scores))
    _check_similarity(model)

    pairs = read_pairs(dataset, *names, corpus)
    rescores = cross_encoder is not None and limited
    ranked = range_max is not None or include_positives or rescores
    if range_max is None and (ranked or sampling_strategy == "random"):
        strict = any(limits[name] is not None for name in ("max_score", "absolute_margin", "relative_margin"))
        many = strict or (cross_encoder is not None and min_score is not None)
        range_max = range_min + (10 if many else 1) * num_negatives + int(pairs.rows_per_query.max())
        if verbose:
            say(f"Setting range_max to {range_max} based on the provided parameters.")
    wanted = SelectionRule(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        **limits,
        draw=_draw(seed) if sampling_strategy == "random" else None,
        include_positives=include_positives,
        fill=not ranked,
    )
    if verbose:
        _describe(pairs)

    encoding = Encoding(
        query_prompt_name=query_prompt_name,
        query_prompt=query_prompt,
        corpus_prompt_name=corpus_prompt_name,
        corpus_prompt=corpus_prompt,
        batch_size=batch_size,
        use_multi_process=use_multi_process,
        cache_folder=cache_folder,
        verbose=verbose,
    )
    queries, passages = embed(model, pairs, encoding)
    searched = Searched(queries, passages, min(faiss_batch_size, _MOST_QUERIES), threads, verbose)
    positives = searched.positive_scores(pairs)
    if rescores:
        selection = rescored(searched, pairs, positives, wanted, cross_encoder, batch_size, use_multi_process)
    elif range_max is not None:
        selection = select_ranked(searched, pairs, positives, wanted, None)
    else:
        selection = select_inside(searched, pairs, positives, wanted)

    if verbose:
        say("Negative candidates mined, preparing dataset...")
    formatted = format_negatives(pairs, selection, output_format, names, output_scores)
    if verbose:
        print_statistics(formatted, selection, wanted)
    return formatted.dataset


def _column_names(dataset: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    columns = dataset.column_names
    if len(columns) < 2:
        raise ValueError(f"dataset: expected at least two columns, anchors and positives, got {columns}")
    names = []
    for argument, name, default in (
        ("anchor_column_name", anchor, columns[0]),
        ("positive_column_name", positive, columns[1]),
    ):
        if name and name not in columns:
            logger.warning("%s: the dataset has no column %r, so %r is used, of %s.", argument, name, default, columns)
        names.append(name if name and name in columns else default)
    if names[0] == names[1]:
        raise ValueError(
            f"dataset: expected different columns for anchors and positives, got {names[0]!r} for both; "
            "give anchor_column_name and positive_column_name"
        )
    return names[0], names[1]


def _format(
    output_format: str, output_scores: bool, as_triplets: bool | None, include_positives: bool
) -> tuple[OutputFormat, bool]:
    if as_triplets is not None:
        output_format = "triplet" if as_triplets else "n-tuple"
        logger.warning(
            "The `as_triplets` parameter is deprecated. Use `output_format` instead. Setting `output_format` to `%s`.",
            output_format,
        )
    if include_positives and output_format != "n-tuple":
        output_format = "n-tuple"
        logger.warning(
            'When using `include_positives=True`, `output_format` is set to `"n-tuple"`, which keeps the ranking.'
        )
    if output_format == "n-tuple-scores":
        output_format, output_scores = "n-tuple", True
        logger.warning(
            '`output_format="n-tuple-scores"` is deprecated. Use `output_format="n-tuple"` with `output_scores=True`.'
        )
    for known in FORMATS:
        if output_format == known:
            return known, bool(output_scores)
    raise ValueError(f"output_format: expected one of {', '.join(map(repr, FORMATS))}, got {output_format!r}")


def _check_new_names(names: tuple[str, str], new: list[str]) -> None:
    for name in names:
        if name in new:
            raise ValueError(f"dataset: the result would have two columns {name!r}; rename that of the dataset")


def _check_similarity(model: Any) -> None:
    similarity = str(getattr(model, "similarity_fn_name", None) or "cosine")
    if similarity not in ("cosine", "dot"):
        raise ValueError(
            f"model: expected similarity_fn_name 'cosine' or 'dot', got {similarity!r}: the search is by cosine"
        )


def _draw(seed: int | None) -> Any:
    return random.sample if seed is None else random.Random(seed).sample


def _describe(pairs: Pairs) -> None:
    num_queries, num_rows = len(pairs.queries), int(pairs.rows_per_query.sum())
    if num_queries != num_rows:
        say(f"Found {num_queries} unique queries out of {num_rows} total queries.")
        say(f"Found an average of {num_rows / num_queries:.3f} positives per query.")
