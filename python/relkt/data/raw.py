"""Data as a reader returns it, and its division into splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relkt.data.splits import (
    DEFAULT_FRACTIONS,
    DEFAULT_SEED,
    SplitBy,
    assign_splits,
    check_fractions,
    check_parallel_together,
    divide,
)
from relkt.data.types import Passage, Query, RetrievalData, Split
from relkt.errors import ArgumentError, Parameter

_DIVIDED = f"{SplitBy.QUESTION.value!r} or {SplitBy.DOCUMENT.value!r}"


@dataclass(frozen=True)
class RawData:
    """Passages, queries and judgements as read, with the published parts of the data set.

    Args:
        name: Name of the data set.
        passages: All candidates.
        queries: All queries; their ``split`` is not set yet.
        qrels: Query id -> passage id -> relevance.
        parts: Query id -> published part; None if the data set has no published parts.
        several_parts: True if ``SplitBy.AUTO`` keeps the published parts as the splits.
        paper: How the authors of CL-ReLKT split the data set: published part -> the splits they made of it, or
            ``SplitBy.QUESTION`` if they split by question. None for data sets they did not use.
        translations: Language -> passage id -> translation of the passage.
    """

    name: str
    passages: Sequence[Passage]
    queries: Sequence[Query]
    qrels: Mapping[str, Mapping[str, int]]
    parts: Mapping[str, Split] | None = None
    several_parts: bool = False
    paper: Mapping[Split, tuple[Split, ...]] | SplitBy | None = None
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def split(
        self,
        by: SplitBy,
        shares: Mapping[Split, float] | None,
        seed: int | None,
        *,
        unseen_documents: bool = False,
    ) -> RetrievalData:
        """Returns the data set, every query with its split.

        Args:
            by: Unit of the split, or the published split to keep.
            shares: Split -> share; None for the default.
            seed: Seed of the split; None for the default.
            unseen_documents: Exclude the documents of dev and test queries from training; ``SplitBy.DOCUMENT`` always
                does this.

        Raises:
            ArgumentError: If the data set lacks the published parts or the paper's split that ``by`` asks for, or if
                shares or a seed are given although the published parts are kept.
            DataError: If a split is empty, if translations of a question are in different published parts, or for the
                reasons in :class:`RetrievalData`.
        """
        if by is SplitBy.AUTO:
            by = SplitBy.OFFICIAL if self.several_parts else SplitBy.QUESTION
        if by is SplitBy.PAPER and isinstance(self.paper, SplitBy):
            by = self.paper
        unused = [name for name, value in (("split_fractions", shares), ("split_seed", seed)) if value is not None]
        shares = check_fractions(DEFAULT_FRACTIONS) if shares is None else shares
        seed = DEFAULT_SEED if seed is None else seed
        if by is SplitBy.OFFICIAL:
            queries = self._in_parts()
            if unused:
                raise ArgumentError(
                    unused[0],
                    problem=f"has no effect, because data set {self.name!r} keeps its official parts",
                    hint=["leave it out, or set ", Parameter("split_by"), f" to {_DIVIDED}"],
                )
        elif by is SplitBy.PAPER:
            queries = self._as_in_paper(shares, seed)
        else:
            queries = assign_splits(self.queries, self.passages, self.qrels, by=by, shares=shares, seed=seed)
        check_parallel_together(self.name, queries)
        return RetrievalData(
            name=self.name,
            passages=tuple(self.passages),
            queries=queries,
            qrels=self.qrels,
            translations=self.translations,
            held_out=self._held_out(queries) if unseen_documents or by is SplitBy.DOCUMENT else {},
        )

    def _held_out(self, queries: Iterable[Query]) -> dict[str, Split]:
        """The documents of dev and test queries."""
        document_of = {p.id: p.document for p in self.passages}
        return {
            document_of[passage]: query.split
            for query in queries
            if query.split is not Split.TRAIN
            for passage, relevance in self.qrels[query.id].items()
            if relevance > 0
        }

    def _in_parts(self) -> tuple[Query, ...]:
        if self.parts is None:
            raise ArgumentError(
                "split_by", problem=f"data set {self.name!r} has no official split", hint=f"use {_DIVIDED}"
            )
        return tuple(replace(q, split=self.parts[q.id]) for q in self.queries)

    def _as_in_paper(self, shares: Mapping[Split, float], seed: int) -> tuple[Query, ...]:
        if self.paper is None or isinstance(self.paper, SplitBy):
            raise ArgumentError(
                "split_by", problem=f"the paper does not use data set {self.name!r}", hint=f"use {_DIVIDED}"
            )
        queries = self._in_parts()
        split_of: dict[str, Split] = {}
        for part, splits in self.paper.items():
            total = sum(shares[split] for split in splits)
            if total == 0:
                names = " and ".join(split.value for split in splits)
                raise ArgumentError("split_fractions", f"a share above 0 for {names}", 0)
            parallel = [q.parallel for q in queries if q.split is part]
            split_of.update(divide(parallel, {split: shares[split] / total for split in splits}, seed))
        return tuple(replace(q, split=split_of[q.parallel]) for q in queries)
