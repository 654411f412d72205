"""One entry for every data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from importlib import resources
from pathlib import Path

from relkt.data.beir import CORPUS, QRELS, QUERIES, read_beir
from relkt.data.hub import hub_folder
from relkt.data.lareqa import read_lareqa
from relkt.data.mlqa import read_mlqa
from relkt.data.raw import RawData
from relkt.data.splits import SplitBy, check_fractions
from relkt.data.types import DataError, RetrievalData, parse_member
from relkt.data.xorqa import ENGLISH_QUESTIONS, FILES, read_xorqa
from relkt.data.xquad import read_xquad


class DatasetName(str, Enum):
    """The data sets :func:`load_data` knows."""

    RELKT_MINI = "relkt-mini"
    """Ours: parallel questions in 12 languages on English passages, shipped in the package."""
    XQUAD = "xquad"
    """Official JSON from a folder, or ``google/xquad`` from the Hub."""
    MLQA = "mlqa"
    """Official JSON from a folder, or ``google/xtreme`` from the Hub."""
    XORQA = "xorqa"
    """XOR-TyDi QA's gold paragraphs, from a folder."""
    LAREQA = "lareqa"
    """XQuAD-R of LAReQA: questions in 11 languages on sentences in all of them, from a folder. For evaluation only."""
    BEIR = "beir"
    """Your own data: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""


def load_data(
    name: DatasetName | str,
    *,
    path: str | Path | None = None,
    hub: str | None = None,
    languages: Iterable[str] | None = None,
    passage_language: str | None = None,
    split_by: SplitBy | str = SplitBy.AUTO,
    split_seed: int | None = None,
    split_fractions: Sequence[float] | None = None,
) -> RetrievalData:
    """Loads a data set and gives every query its split.

    The candidates are all passages, whatever the split. A question's translations are always in one split, and which
    one depends only on the data set, ``split_by``, ``split_seed`` and ``split_fractions``: not on the languages chosen,
    the platform or the order of the files.

    Args:
        name: ``"relkt-mini"``, ``"xquad"``, ``"mlqa"``, ``"xorqa"``, ``"lareqa"`` or ``"beir"``.
        path: The folder with the data set's files. None loads XQuAD and MLQA from the Hub; relkt-mini takes no path.
        hub: For ``"beir"`` and ``"xorqa"`` instead of ``path``: a data set repository on the Hub, e.g.
            ``"me/my-passages"``, that holds the same files.
        languages: Keep the questions in these languages only; None keeps all.
        passage_language: Language of the candidates of XQuAD and MLQA, ``"en"`` by default.
        split_by: Unit of the split, or which given split to use; see :class:`SplitBy`.
        split_seed: Seed of the split by question or by document; None for 42. Only where there is something to
            divide: not with official parts.
        split_fractions: Shares of train, dev and test, None for 0.6, 0.2 and 0.2; counts are rounded so that they add
            up. Not with official parts either.

    Returns:
        The data set.

    Raises:
        ValueError: If an argument is out of its range, does not fit the data set, or a language has no question.
        DataError: If a file is missing or malformed (names the file, the place and the value), or the Hub is out of
            reach.
    """
    dataset = parse_member(DatasetName, name, "name")
    by = parse_member(SplitBy, split_by, "split_by")
    shares = None if split_fractions is None else check_fractions(split_fractions)
    wanted = None if languages is None else _languages(languages)
    raw = _read(dataset, _folder(dataset, path, hub), wanted, passage_language)
    data = raw.split(by, shares, split_seed)
    return data if wanted is None else data.select(languages=wanted)


def _read(
    dataset: DatasetName, folder: Path | None, languages: list[str] | None, passage_language: str | None
) -> RawData:
    if dataset is DatasetName.XQUAD:
        return read_xquad(folder, languages, passage_language or "en")
    if dataset is DatasetName.MLQA:
        return read_mlqa(folder, languages, passage_language or "en")
    if passage_language is not None:
        raise ValueError(
            f"passage_language: data set {dataset.value!r} gives no choice of the passages' language; leave it out"
        )
    if dataset is DatasetName.RELKT_MINI:
        with resources.as_file(resources.files("relkt.data") / "mini" / CORPUS) as corpus:
            return read_beir(corpus.parent, dataset.value)
    if folder is None:
        if dataset is DatasetName.LAREQA:
            raise ValueError("path: data set 'lareqa' needs the folder with its files, got none")
        raise ValueError(f"path: data set {dataset.value!r} needs the folder with its files, or hub=; got neither")
    if dataset is DatasetName.LAREQA:
        return read_lareqa(folder)
    return read_xorqa(folder) if dataset is DatasetName.XORQA else read_beir(folder)


def _folder(dataset: DatasetName, path: str | Path | None, hub: str | None) -> Path | None:
    if dataset is DatasetName.RELKT_MINI and path is not None:
        raise ValueError(f"path: {dataset.value} is part of the package, expected no path, got {str(path)!r}")
    if hub is not None:
        if path is not None:
            raise ValueError(f"hub: expected either path or hub, got both ({str(path)!r} and {hub!r})")
        if dataset is DatasetName.BEIR:
            return hub_folder(hub, [CORPUS, QUERIES, f"{QRELS}/*.tsv"])
        if dataset is DatasetName.XORQA:
            return hub_folder(hub, [f"*{name}" for name in (*FILES.values(), ENGLISH_QUESTIONS)])
        raise ValueError(f"hub: expected only for 'beir' and 'xorqa', got it for {dataset.value!r}")
    if path is None:
        return None
    folder = Path(path).expanduser()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "not there"
        raise DataError(f"path: expected a folder, got {str(folder)!r}, which is {found}")
    return folder


def _languages(languages: Iterable[str]) -> list[str]:
    if isinstance(languages, str):
        raise ValueError(f"languages: expected a list of language codes, got the string {languages!r}")
    wanted = list(dict.fromkeys(languages))
    if not wanted:
        raise ValueError("languages: expected at least one language code, or None for all, got an empty list")
    return wanted
