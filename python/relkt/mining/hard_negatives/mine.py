"""``mine_hard_negatives``: the function of sentence-transformers, on the exact miner."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, Literal

from datasets import Dataset

from relkt.arrays import as_count, as_threads
from relkt.mining.hard_negatives.arguments import (
    check_new_names,
    check_scores,
    check_similarity,
    checked_limits,
    checked_range,
    column_names,
    deprecated_margin,
    output_options,
    warn_about_positives,
)
from relkt.mining.hard_negatives.embeddings import Encoding, embed
from relkt.mining.hard_negatives.formats import OutputFormat, format_negatives, new_columns, print_statistics, say
from relkt.mining.hard_negatives.pairs import Pairs, read_pairs
from relkt.mining.hard_negatives.selection import Searched, SelectionRule, rescored, select_inside, select_ranked

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

_MAX_QUERIES = 4096
"""Maximum number of queries in a block of the search."""


# Long: sentence-transformers' signature alone has 31 parameters, and each is passed on once.
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

    The signature is that of ``sentence_transformers.util.mine_hard_negatives`` of version 6, whichever version is
    installed. The result is the same, too, wherever that function is exact. That function first fetches the top
    candidates and then applies the conditions to them, so strict conditions leave queries without negatives. Here the
    conditions are applied inside the search. Without ``range_max``, this means:

    - "top": a query has fewer than ``num_negatives`` only if the corpus has no more passages that meet the conditions.
    - "random": negatives are drawn from the same options, in the same way, so the same ``random.seed`` gives the same
      negatives. Queries with fewer options than ``num_negatives`` get the best passages that meet the conditions.

    With ``range_max``, with ``include_positives``, or with a ``cross_encoder`` that is used, only the best
    ``range_max`` + (maximum number of positives of an anchor) passages are considered, positives included. These
    passages can run out, as in sentence-transformers.

    Repeated texts count once, both in the corpus and among the anchors. The positives of an anchor are never its
    negatives, and margins are relative to its lowest-scoring positive. Scores are exact cosines, rounded to float32
    once; ties are in the order of the corpus. An embedding of zeros scores 0.

    Args:
        dataset: Pairs of texts. Rows with the same anchor are several positives of this anchor.
        model: Encodes anchors (``encode_query``) and passages (``encode_document``). Its similarity must be cosine or
            dot, which are equal because embeddings are normalised.
        anchor_column_name: Column of the anchors. Default: the first. An unknown name falls back to the default, with a
            warning.
        positive_column_name: Column of the positives. Default: the second. An unknown name falls back to the default,
            with a warning.
        corpus: Additional passages that may be negatives. Default: the positives only.
        cross_encoder: Rescores the candidates. Used only with at least one of ``max_score``, ``min_score``,
            ``absolute_margin`` and ``relative_margin``, which then apply to its scores.
        range_min: Number of candidates to skip, at least 0: the best of those that meet the conditions. Default: 0.
        range_max: Rank of the last candidate to consider, at least ``range_min + num_negatives``. Default: no limit for
            "top", unless ``include_positives`` or a ``cross_encoder`` is used. Otherwise
            ``range_min + f * num_negatives`` + the maximum number of positives of an anchor. Here f is 10 with a
            margin, with ``max_score``, or with both ``min_score`` and a cross-encoder; otherwise f is 1.
        max_score: Maximum score of a negative. Default: no limit.
        min_score: Minimum score of a negative. Default: no limit.
        absolute_margin: A negative scores at most the lowest positive's score minus this. Default: no limit.
        relative_margin: A negative scores at most the lowest positive's score minus this share of that score's
            magnitude. Default: no limit.
        num_negatives: Number of negatives per anchor, at least 1. Default: 3.
        sampling_strategy: "top" takes the best candidates, "random" samples candidates that meet the conditions. Both
            return negatives in the order of their scores.
        query_prompt_name: Name of the model's prompt for anchors. Default: the model's default for queries.
        query_prompt: Text to put before every anchor; overrides ``query_prompt_name``.
        corpus_prompt_name: Name of the model's prompt for passages. Default: the model's default for documents.
        corpus_prompt: Text to put before every passage; overrides ``corpus_prompt_name``.
        include_positives: Allow positives among the "negatives", for data sets of rankings. Sets the format to
            "n-tuple".
        output_format: See Returns.
        output_scores: Add scores, from ``cross_encoder`` if it is used. Default: no.
        batch_size: Number of texts, or of pairs for the cross-encoder, in a batch. Default: 32.
        faiss_batch_size: Maximum number of queries to search at a time. Default: 16384.
        use_faiss: Accepted and ignored: the search is always relkt's, which is exact.
        use_multi_process: True for one process per GPU, or four without a GPU; or a list of devices.
        verbose: Print statistics and show progress. Default: yes. If the conditions are applied inside the search,
            the lines "Skipped ..." count all passages of the corpus above a query's lowest upper limit, under
            the name of that limit; passages below ``min_score`` are not counted.
        cache_folder: Folder of cached embeddings, in files named by a hash of model name, prompt and texts:
            ``query_embeddings_{hash}.npy`` and ``corpus_embeddings_{hash}.npy``, as in sentence-transformers.
        as_triplets: Deprecated: ``output_format`` "triplet" if true, otherwise "n-tuple".
        margin: Deprecated: ``absolute_margin``.
        seed: Seed of "random". Default: use Python's global ``random``, like sentence-transformers.
        threads: Number of threads of the search. Default: all that the process may use.

    Returns:
        A ``datasets.Dataset``. Its first two columns are named like the input's columns of anchors and positives. Its
        rows are in the order in which anchors and their positives first appear. The columns by ``output_format``:

        - "triplet": anchor, positive, ``negative``; one row per negative of each positive. Scores: ``scores``, of the
          positive and the negative.
        - "n-tuple": anchor, positive, ``negative_1``, ...; one row per positive whose anchor has all
          ``num_negatives``. Scores: ``scores``, of the positive and all negatives.
        - "labeled-pair": anchor, passage, ``label`` 1 (positive) or 0; one row per positive and per negative. Scores:
          ``score`` instead of ``label``.
        - "labeled-list": anchor, list of passages, positive first, and list ``labels``; one row per positive whose
          anchor has a negative. Scores: ``scores`` instead of ``labels``.

    Raises:
        TypeError: If ``dataset`` is not a ``datasets.Dataset``, a text is not a string, or another argument has the
            wrong type.
        ValueError: If ``dataset`` is empty or has fewer than two columns, a text is missing, a number is out of range,
            ``range_max`` leaves room for fewer than ``num_negatives``, an option has an unknown value, two columns
            would have the same name, the model's similarity is neither cosine nor dot, or an embedding is not finite.
    """
    names = column_names(dataset, anchor_column_name, positive_column_name)
    if margin is not None:
        absolute_margin = deprecated_margin(margin)
    limits = checked_limits(
        max_score=max_score, min_score=min_score, absolute_margin=absolute_margin, relative_margin=relative_margin
    )
    limited = any(limit is not None for limit in limits.values())
    if include_positives and (limited or range_min != 0 or range_max is not None or sampling_strategy != "top"):
        warn_about_positives()
    output_format, output_scores = output_options(output_format, output_scores, as_triplets, include_positives)
    num_negatives, range_min, range_max = checked_range(sampling_strategy, num_negatives, range_min, range_max)
    check_scores(limits["min_score"], limits["max_score"])
    batch_size = as_count("batch_size", batch_size, "of at least 1", least=1)
    faiss_batch_size = as_count("faiss_batch_size", faiss_batch_size, "of at least 1", least=1)
    threads = as_threads(threads)
    check_new_names(names, new_columns(output_format, num_negatives, output_scores))
    check_similarity(model)

    pairs = read_pairs(dataset, *names, corpus)
    rescores = cross_encoder is not None and limited
    ranked = range_max is not None or include_positives or rescores
    if range_max is None and (ranked or sampling_strategy == "random"):
        strict = any(limits[name] is not None for name in ("max_score", "absolute_margin", "relative_margin"))
        many = strict or (cross_encoder is not None and min_score is not None)
        range_max = range_min + (10 if many else 1) * num_negatives + int(pairs.rows_per_query.max())
        if verbose:
            say(f"Setting range_max to {range_max} based on the provided parameters.")
    rule = SelectionRule(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        **limits,
        sample=_sampler(seed) if sampling_strategy == "random" else None,
        include_positives=include_positives,
        complete=not ranked,
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
    searched = Searched(queries, passages, min(faiss_batch_size, _MAX_QUERIES), threads, verbose)
    positives = searched.positive_scores(pairs)
    if rescores:
        selection = rescored(searched, pairs, positives, rule, cross_encoder, batch_size, use_multi_process)
    elif range_max is not None:
        selection = select_ranked(searched, pairs, positives, rule, None)
    else:
        selection = select_inside(searched, pairs, positives, rule)

    if verbose:
        say("Negative candidates mined, preparing dataset...")
    formatted = format_negatives(pairs, selection, output_format, names, output_scores)
    if verbose:
        print_statistics(formatted, selection, rule)
    return formatted.dataset


def _sampler(seed: int | None) -> Any:
    return random.sample if seed is None else random.Random(seed).sample


def _describe(pairs: Pairs) -> None:
    num_queries, num_rows = len(pairs.queries), int(pairs.rows_per_query.sum())
    if num_queries != num_rows:
        say(f"Found {num_queries} unique queries out of {num_rows} total queries.")
        say(f"Found an average of {num_rows / num_queries:.3f} positives per query.")
