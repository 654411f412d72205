"""Conversion between retrieval data and Hugging Face ``datasets``, in the layout of BEIR's data sets on the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relkt.data.beir_records import Judgement, Record, put_together, read_passages, read_queries
from relkt.data.parsing import shorten, string_field
from relkt.data.splits import SplitBy, check_fractions
from relkt.data.types import DataError, RetrievalData, Split, parse_member

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

CORPUS, QUERIES, QRELS, TRANSLATIONS = "corpus", "queries", "default", "translations"
"""Names of the configurations; the judgements are in ``default``, as in the repositories on the Hub."""

_SPLIT_NAMES = {**{split.value: split for split in Split}, "validation": Split.DEV}
_IDS = ("_id", "query-id", "corpus-id", "document", "parallel")


def to_datasets(data: RetrievalData) -> dict[str, DatasetDict]:
    """Converts a data set to Hugging Face ``datasets`` without loss; :func:`from_datasets` converts it back.

    To make a repository in BEIR's layout, push each part to the Hub under its name:
    ``part.push_to_hub("me/my-passages", name)``.

    Args:
        data: The data set. Its name becomes ``info.dataset_name`` of each part.

    Returns:
        Configuration -> split -> rows:

        - ``"corpus"``, split ``corpus``: ``_id``, ``title``, ``text``, ``document``, ``language``;
        - ``"queries"``, split ``queries``: ``_id``, ``text``, ``language``, ``parallel``;
        - ``"default"``, splits ``train``, ``dev`` and ``test``, without empty ones: ``query-id``, ``corpus-id``,
          ``score``, in the order of the queries;
        - ``"translations"``, split ``translations``, if the data set has any: ``_id``, ``language``, ``text``.
    """
    from datasets import Dataset, DatasetDict, DatasetInfo, Features, Value

    def table(columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> Dataset:
        values = list(zip(*rows, strict=True)) or [()] * len(columns)
        features = Features({name: Value(kind) for name, kind in columns.items()})
        return Dataset.from_dict(
            dict(zip(columns, map(list, values), strict=True)),
            features=features,
            info=DatasetInfo(features=features, dataset_name=data.name),
        )

    texts = dict.fromkeys(("_id", "title", "text", "document", "language"), "string")
    questions = dict.fromkeys(("_id", "text", "language", "parallel"), "string")
    judgements = {"query-id": "string", "corpus-id": "string", "score": "int64"}
    parts = {
        CORPUS: DatasetDict(
            {CORPUS: table(texts, ((p.id, p.title, p.text, p.document, p.language) for p in data.passages))}
        ),
        QUERIES: DatasetDict(
            {QUERIES: table(questions, ((q.id, q.text, q.language, q.parallel) for q in data.queries))}
        ),
        QRELS: DatasetDict(
            {
                split.value: table(
                    judgements,
                    (
                        (q.id, passage, score)
                        for q in data.queries
                        if q.split is split
                        for passage, score in data.qrels[q.id].items()
                    ),
                )
                for split in Split
                if any(q.split is split for q in data.queries)  # `datasets` writes empty splits but cannot read them
            }
        ),
    }
    if data.translations:
        columns = dict.fromkeys(("_id", "language", "text"), "string")
        rows = ((p, language, text) for language, texts in data.translations.items() for p, text in texts.items())
        parts[TRANSLATIONS] = DatasetDict({TRANSLATIONS: table(columns, rows)})
    return parts


def from_datasets(
    corpus: Dataset | DatasetDict,
    queries: Dataset | DatasetDict,
    qrels: Dataset | DatasetDict,
    translations: Dataset | DatasetDict | None = None,
    *,
    name: str | None = None,
    split_by: SplitBy | str = SplitBy.AUTO,
    split_seed: int | None = None,
    split_fractions: Sequence[float] | None = None,
    unseen_documents: bool = False,
) -> RetrievalData:
    """Makes a data set from Hugging Face ``datasets`` in the layout of BEIR's repositories on the Hub.

    ``from_datasets(*(load_dataset("mteb/nfcorpus", part) for part in ("corpus", "queries", "default")))`` reads a
    repository, and ``from_datasets(*to_datasets(data).values(), split_by="official")`` equals ``data``
    (with ``unseen_documents=True`` if documents of ``data`` are held out).

    Integer ids are converted to strings, because many repositories store an id as an integer in the judgements but as a
    string with the text. A value of None counts as missing. Columns not named below are ignored. Queries without a
    score above 0 are left out, and their number is logged as a warning.

    Args:
        corpus: ``_id`` and ``text``; optional ``title``, ``document`` (default: the passage's own id) and ``language``
            (default ``"en"``). One split of any name.
        queries: ``_id`` and ``text``; optional ``language`` (default ``"en"``) and ``parallel``, an id shared by all
            translations of a question (default: the query's own id). One split of any name.
        qrels: ``query-id``, ``corpus-id`` and ``score``, a whole number. Splits ``train``, ``dev`` (or ``validation``)
            and ``test``, or one split of any name.
        translations: ``_id`` of a passage, ``language`` and ``text``. Default: no translations.
        name: Name of the data set. Default: the ``info.dataset_name`` of ``corpus``.
        split_by: As in :func:`~relkt.data.load_data`: by default, several splits of the judgements are kept, and a
            single split is divided by question.
        split_seed: As in :func:`~relkt.data.load_data`.
        split_fractions: As in :func:`~relkt.data.load_data`.
        unseen_documents: As in :func:`~relkt.data.load_data`.

    Raises:
        DataError: If a column is missing or of another type, an id repeats, judgements or translations name an unknown
            query or passage, a query is judged in two splits, or no query has a positive. The message names part, row
            and value.
        TypeError: If a part is not a ``Dataset`` or ``DatasetDict``.
        ArgumentError: As :func:`~relkt.data.load_data`.
    """
    by = parse_member(SplitBy, split_by, "split_by")
    shares = None if split_fractions is None else check_fractions(split_fractions)
    judgements = _splits("qrels", qrels)
    if len(judgements) > 1 and not set(judgements) <= set(_SPLIT_NAMES):
        raise DataError(
            f"qrels: expected splits named {', '.join(_SPLIT_NAMES)}, or one split of any name, got "
            f"{', '.join(judgements)}"
        )
    passages = read_passages(_records("corpus", _only_split("corpus", corpus)), "corpus")
    raw = put_together(
        name or _only_split("corpus", corpus).info.dataset_name or "datasets",
        passages,
        read_queries(_records("queries", _only_split("queries", queries))),
        (judgement for part, rows in judgements.items() for judgement in _judgements(part, rows)),
        parts={part: _SPLIT_NAMES.get(part) for part in judgements},
        source="qrels",
        corpus="corpus",
        questions="queries",
    )
    if translations is not None:
        raw = replace(raw, translations=_translations(_only_split("translations", translations)))
    return raw.split(by, shares, split_seed, unseen_documents=unseen_documents)


def _splits(part: str, data: Dataset | DatasetDict) -> dict[str, Dataset]:
    from datasets import Dataset, DatasetDict

    if isinstance(data, DatasetDict):
        if not data:
            raise DataError(f"{part}: expected at least one split, got none")
        return dict(data)
    if not isinstance(data, Dataset):
        raise TypeError(f"{part}: expected a datasets.Dataset or DatasetDict, got {type(data).__name__}")
    return {str(data.split or part): data}


def _only_split(part: str, data: Dataset | DatasetDict) -> Dataset:
    splits = _splits(part, data)
    if len(splits) > 1:
        raise DataError(f"{part}: expected one split, got {', '.join(splits)}; choose one, or concatenate them")
    return next(iter(splits.values()))


def _records(part: str, rows: Dataset) -> Iterable[Record]:
    for number, row in enumerate(rows.with_format(None)):
        record: dict[str, Any] = {column: value for column, value in row.items() if value is not None}
        for column in _IDS:
            value = record.get(column)
            if isinstance(value, int) and not isinstance(value, bool):
                record[column] = str(value)
        yield f"{part}, row {number}", record


def _judgements(part: str, rows: Dataset) -> Iterable[Judgement]:
    for where, record in _records(f"qrels, split {part}", rows):
        query, passage = (string_field(record, column, where) for column in ("query-id", "corpus-id"))
        score = record.get("score")
        # Some repositories store whole numbers as floats.
        if not isinstance(score, int | float) or isinstance(score, bool) or score != score // 1:
            raise DataError(f"{where}: expected a whole number in 'score', got {shorten(score)}")
        yield Judgement(where, part, query, passage, int(score))


def _translations(rows: Dataset) -> dict[str, dict[str, str]]:
    translations: dict[str, dict[str, str]] = {}
    for where, record in _records("translations", rows):
        passage, language, text = (string_field(record, column, where) for column in ("_id", "language", "text"))
        texts = translations.setdefault(language, {})
        if passage in texts:
            raise DataError(f"{where}: passage {passage!r} is translated into {language!r} twice")
        texts[passage] = text
    return translations
