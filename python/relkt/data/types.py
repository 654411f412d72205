"""The data model: passages, queries, and the retrieval data set that ties them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from relkt.errors import ArgumentError

_E = TypeVar("_E", bound=Enum)


class DataError(ValueError):
    """A data set is missing, malformed or inconsistent; the message names the file, the record and the value."""


class DataArgumentError(ArgumentError, DataError):
    """A data set cannot be loaded because of the value of an argument."""


class Level(str, Enum):
    """The unit that is ranked for a query."""

    PASSAGE = "passage"
    """Single passages."""
    DOCUMENT = "document"
    """Documents, each embedded as one text: its passages joined (as the CL-ReLKT authors did for XQuAD)."""
    BEST_PASSAGE = "best-passage"
    """Documents, each scored by its best passage."""


class Split(str, Enum):
    """Part of a data set."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Passage:
    """A candidate text.

    Args:
        id: Unique among the passages of a data set.
        text: The text, which is embedded without the title.
        document: Id of its document. If a passage is a positive of a query, the other passages of its document are
            never negatives of this query.
        language: ISO 639-1 code.
        title: Title of the document; empty if it has no title.
    """

    id: str
    text: str
    document: str
    language: str = "en"
    title: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A question.

    Args:
        id: Unique among the queries of a data set.
        text: The question.
        language: ISO 639-1 code.
        parallel: Id shared by all translations of a question; a question without translations has its own id here.
        split: The split that it belongs to.
    """

    id: str
    text: str
    language: str
    parallel: str
    split: Split = Split.TRAIN


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate texts at one level: ``ids[i]``, ``texts[i]`` and ``documents[i]`` describe row i."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    documents: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalData:
    """Passages, queries and relevance judgements.

    Args:
        name: Name of the data set, e.g. ``"xquad"``.
        passages: All candidates. Every query, of any split, searches all of them.
        queries: The queries, each with its language and split.
        qrels: Query id -> passage id -> relevance; a relevance above 0 makes the passage a positive.
        translations: Language -> passage id -> translation of the passage. Translations serve as training text and
            are never candidates. A language may lack some passages.
        held_out: Document id -> ``Split.DEV`` or ``Split.TEST``, for documents that training must not see in any form;
            empty if training knows all candidates.

    Raises:
        DataError: If ids repeat, texts are empty, a query has no positive, qrels or translations name an unknown
            query or passage, or a positive of a query is in a document held out for another split.
    """

    name: str
    passages: tuple[Passage, ...]
    queries: tuple[Query, ...]
    qrels: Mapping[str, Mapping[str, int]] = field(repr=False)
    translations: Mapping[str, Mapping[str, str]] = field(repr=False, default_factory=dict)
    held_out: Mapping[str, Split] = field(repr=False, default_factory=dict)

    def __repr__(self) -> str:
        counts = f"{len(self.passages):,} passages, {len(self.queries):,} queries"
        return f"RetrievalData({self.name!r}: {counts} in {', '.join(self.languages)})"

    def __post_init__(self) -> None:
        if not self.passages:
            raise DataError(f"data set {self.name!r}: expected at least one passage, got none")
        _check_unique(self.name, "passage", self.passages)
        _check_unique(self.name, "query", self.queries)
        query_ids = {q.id for q in self.queries}
        passage_ids = {p.id for p in self.passages}
        for query_id, judged in self.qrels.items():
            if query_id not in query_ids:
                raise DataError(
                    f"data set {self.name!r}: qrels name the query {query_id!r}, which is not among the queries"
                )
            for passage_id in judged:
                if passage_id not in passage_ids:
                    raise DataError(
                        f"data set {self.name!r}: qrels of query {query_id!r} name the passage {passage_id!r}, "
                        "which is not among the passages"
                    )
        for query in self.queries:
            if not any(relevance > 0 for relevance in self.qrels.get(query.id, {}).values()):
                raise DataError(f"data set {self.name!r}: query {query.id!r} has no passage with a relevance above 0")
        for language, texts in self.translations.items():
            for passage_id, text in texts.items():
                if passage_id not in passage_ids:
                    raise DataError(
                        f"data set {self.name!r}: translations into {language!r} name the passage {passage_id!r}, "
                        "which is not among the passages"
                    )
                if not text.strip():
                    raise DataError(
                        f"data set {self.name!r}: the translation of passage {passage_id!r} into {language!r} is empty"
                    )
        if self.held_out:
            self._check_held_out()

    def _check_held_out(self) -> None:
        document_of = {p.id: p.document for p in self.passages}
        for query in self.queries:
            for passage in self.positives(query.id):
                split = self.held_out.get(document_of[passage], Split.TRAIN)
                if split is not query.split:
                    raise DataError(
                        f"data set {self.name!r}: the {query.split.value} query {query.id!r} is answered in document "
                        f"{document_of[passage]!r}, which also answers queries of the {split.value} split; expected "
                        "each document in one split, as with split_by='document'"
                    )

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the queries, sorted, English first."""
        return sort_languages({q.language for q in self.queries})

    def positives(self, query_id: str) -> tuple[str, ...]:
        """Ids of the positives of a query, in the order of the qrels."""
        return tuple(p for p, relevance in self.qrels[query_id].items() if relevance > 0)

    def select(self, *, split: Split | str | None = None, languages: Iterable[str] | None = None) -> RetrievalData:
        """The data set with all its candidates, but only the queries of one split, some languages, or both.

        Raises:
            ValueError: If ``split`` is unknown, or the data set has no query in a language.
        """
        wanted_split = None if split is None else parse_member(Split, split, "split")
        wanted = None if languages is None else set(languages)
        if wanted is not None and (unknown := wanted - set(self.languages)):
            raise ArgumentError(
                "languages",
                problem=f"data set {self.name!r} has no query in {', '.join(sorted(unknown))}; "
                f"it has {', '.join(self.languages)}",
            )
        queries = tuple(
            q
            for q in self.queries
            if (wanted_split is None or q.split is wanted_split) and (wanted is None or q.language in wanted)
        )
        kept = {q.id for q in queries}
        return replace(self, queries=queries, qrels={k: v for k, v in self.qrels.items() if k in kept})

    def seen_by(self, split: Split | str) -> RetrievalData:
        """The part of the data set for training (``Split.TRAIN``) or for selecting weights (``Split.DEV``).

        It omits the documents held out for later splits, with their passages, translations, queries and judgements. It
        also omits copies of these passages in other documents. Training sees no document of dev or test; dev evaluation
        sees no document of test. If no document is held out, this is the data set itself.

        Raises:
            ValueError: If ``split`` is unknown.
        """
        order = list(Split)
        wanted = parse_member(Split, split, "split")
        hidden = {d for d, held in self.held_out.items() if order.index(held) > order.index(wanted)}
        if not hidden:
            return self
        hidden_texts = {p.text for p in self.passages if p.document in hidden}
        passages = tuple(p for p in self.passages if p.document not in hidden and p.text not in hidden_texts)
        kept = {p.id for p in passages}
        qrels = {
            query: {passage: relevance for passage, relevance in judged.items() if passage in kept}
            for query, judged in self.qrels.items()
        }
        queries = tuple(q for q in self.queries if any(relevance > 0 for relevance in qrels[q.id].values()))
        known = {q.id for q in queries}
        return replace(
            self,
            passages=passages,
            queries=queries,
            qrels={query: judged for query, judged in qrels.items() if query in known},
            translations={
                language: {passage: text for passage, text in texts.items() if passage in kept}
                for language, texts in self.translations.items()
            },
        )

    def candidates(self, level: Level | str = Level.PASSAGE) -> Candidates:
        """The candidate texts to embed at a level.

        ``Level.PASSAGE`` and ``Level.BEST_PASSAGE`` give the passages, in order. ``Level.DOCUMENT`` gives the
        documents, in order of first appearance, with blank lines between their passages.
        """
        if parse_member(Level, level, "level") is not Level.DOCUMENT:
            return Candidates(
                ids=tuple(p.id for p in self.passages),
                texts=tuple(p.text for p in self.passages),
                documents=tuple(p.document for p in self.passages),
            )
        joined: dict[str, list[str]] = {}
        for passage in self.passages:
            joined.setdefault(passage.document, []).append(passage.text)
        documents = tuple(joined)
        return Candidates(ids=documents, texts=tuple("\n\n".join(joined[d]) for d in documents), documents=documents)

    def candidate_qrels(self, level: Level | str = Level.PASSAGE) -> dict[str, dict[str, int]]:
        """Query id -> candidate id -> relevance, with candidates as in :meth:`candidates`.

        At the two document levels a document's relevance is the highest among its passages.
        """
        if parse_member(Level, level, "level") is Level.PASSAGE:
            return {query: dict(judged) for query, judged in self.qrels.items()}
        document_of = {p.id: p.document for p in self.passages}
        out: dict[str, dict[str, int]] = {}
        for query, judged in self.qrels.items():
            row = out.setdefault(query, {})
            for passage, relevance in judged.items():
                document = document_of[passage]
                row[document] = max(row.get(document, relevance), relevance)
        return out


def parse_member(kind: type[_E], value: _E | str, argument: str) -> _E:
    """Returns the member of an enumeration with this value, or ``value`` itself if it is a member.

    Raises:
        ArgumentError: If no member has the value; names the argument and lists the values.
    """
    try:
        return kind(value)
    except ValueError as error:
        names = ", ".join(repr(member.value) for member in kind)
        raise ArgumentError(argument, f"one of {names}", repr(value)) from error


def sort_languages(languages: Iterable[str]) -> tuple[str, ...]:
    """Returns the distinct languages, sorted, English first."""
    return tuple(sorted(set(languages), key=lambda code: (code != "en", code)))


def _check_unique(name: str, kind: str, items: Iterable[Passage | Query]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"data set {name!r}: {kind} id {item.id!r} appears twice")
        if not item.text.strip():
            raise DataError(f"data set {name!r}: {kind} {item.id!r} has an empty text")
        seen.add(item.id)
