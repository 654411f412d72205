"""What a reader returns, before the questions are split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class RawData:
    """Passages, queries and judgements as read, with the parts the data set was published in.

    Args:
        name: Name of the data set.
        passages: All candidates.
        queries: All queries, their ``split`` not yet meaningful.
        qrels: Query id -> passage id -> relevance.
        parts: Query id -> published part; None if the data set is published in one piece.
        several_parts: Whether the published parts are a split of their own, which ``SplitBy.AUTO`` keeps.
        paper: What the CL-ReLKT authors did: published part -> the splits they made of it, or ``SplitBy.QUESTION``;
            None for data sets they did not use.
        translations: Language -> passage id -> the passage in that language.
    """

    name: str
    passages: Sequence[Passage]
    queries: Sequence[Query]
    qrels: Mapping[str, Mapping[str, int]]
    parts: Mapping[str, Split] | None = None
    several_parts: bool = False
    paper: Mapping[Split, tuple[Split, ...]] | SplitBy | None = None
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def split(self, by: SplitBy, shares: Mapping[Split, float] | None, seed: int | None) -> RetrievalData:
        """The data set with every query in its split.

        Args:
            by: Unit of the split, or which given split to use.
            shares: Split -> share; None for the default.
            seed: Of the split; None for the default.

        Raises:
            ValueError: If ``by`` asks for published parts, or for the paper's split, and there is no such thing; if
                shares or a seed are given where the published parts are kept.
            DataError: As :class:`RetrievalData`; if a split comes out empty; if published parts separate translations.
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
                raise ValueError(
                    f"{', '.join(unused)}: data set {self.name!r} keeps its official parts, nothing is divided; leave "
                    f"it out, or split by {SplitBy.QUESTION.value!r} or {SplitBy.DOCUMENT.value!r}"
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
        )

    def _in_parts(self) -> tuple[Query, ...]:
        if self.parts is None:
            raise ValueError(
                f"split_by: data set {self.name!r} is published in one piece and has no official split; "
                f"use {SplitBy.QUESTION.value!r} or {SplitBy.DOCUMENT.value!r}"
            )
        return tuple(replace(q, split=self.parts[q.id]) for q in self.queries)

    def _as_in_paper(self, shares: Mapping[Split, float], seed: int) -> tuple[Query, ...]:
        if self.paper is None or isinstance(self.paper, SplitBy):
            raise ValueError(
                f"split_by: the paper does not use data set {self.name!r}; "
                f"use {SplitBy.QUESTION.value!r} or {SplitBy.DOCUMENT.value!r}"
            )
        queries = self._in_parts()
        split_of: dict[str, Split] = {}
        for part, splits in self.paper.items():
            total = sum(shares[split] for split in splits)
            if total == 0:
                names = " and ".join(split.value for split in splits)
                raise ValueError(f"split_fractions: expected a share above 0 for {names}, got 0")
            parallel = [q.parallel for q in queries if q.split is part]
            split_of.update(divide(parallel, {split: shares[split] / total for split in splits}, seed))
        return tuple(replace(q, split=split_of[q.parallel]) for q in queries)
