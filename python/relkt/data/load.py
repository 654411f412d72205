"""Loading a data set by its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from importlib import resources
from pathlib import Path

from relkt.data.beir import CORPUS, QRELS, QUERIES, read_beir
from relkt.data.hub_download import hub_folder
from relkt.data.lareqa import read_lareqa
from relkt.data.mlqa import read_mlqa
from relkt.data.raw import RawData
from relkt.data.splits import SplitBy, check_fractions
from relkt.data.types import DataArgumentError, RetrievalData, parse_member
from relkt.data.xorqa import ENGLISH_QUESTIONS, FILES, read_xorqa
from relkt.data.xquad import read_xquad
from relkt.errors import ArgumentError, Parameter


class DatasetName(str, Enum):
    """Data sets that :func:`load_data` loads."""

    RELKT_MINI = "relkt-mini"
    """relkt's own: parallel questions in 12 languages on English passages, included in the package."""
    XQUAD = "xquad"
    """Official JSON from a folder, or ``google/xquad`` from the Hub."""
    MLQA = "mlqa"
    """Official JSON from a folder, or ``google/xtreme`` from the Hub."""
    XORQA = "xorqa"
    """XOR-TyDi QA's gold paragraphs, from a folder or a data set repository on the Hub."""
    LAREQA = "lareqa"
    """XQuAD-R of LAReQA: questions and candidate sentences in 11 languages, from a folder. For evaluation only."""
    BEIR = "beir"
    """Your data: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv, from a folder or a data set repository on the Hub."""


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
    unseen_documents: bool = False,
) -> RetrievalData:
    """Loads a data set and assigns a split to every query.

    All passages are candidates for every split, unless documents are held out (see ``unseen_documents``). All
    translations of a question are in the same split. The split of a question depends only on the data set,
    ``split_by``, ``split_seed`` and ``split_fractions``, not on the chosen languages, the platform or the order of the
    files.

    Args:
        name: ``"relkt-mini"``, ``"xquad"``, ``"mlqa"``, ``"xorqa"``, ``"lareqa"`` or ``"beir"``.
        path: Folder with the files of the data set. None loads XQuAD and MLQA from the Hub; relkt-mini takes no path.
        hub: For ``"beir"`` and ``"xorqa"``, instead of ``path``: a data set repository on the Hub with the same files,
            e.g. ``"me/my-passages"``.
        languages: Languages of the questions to keep; None keeps all.
        passage_language: Language of the candidates of XQuAD and MLQA, ``"en"`` by default.
        split_by: Unit of the split, or the published split to keep; see :class:`SplitBy`.
        split_seed: Seed of the split; None for 42. Not allowed with published parts, which are not shuffled.
        split_fractions: Shares of train, dev and test; None for 0.6, 0.2 and 0.2. Not allowed with published parts.
        unseen_documents: Exclude the documents of dev and test questions from all of training (passages, translations,
            questions, teacher targets, vocabulary), as if they arrived after training. ``split_by="document"`` always
            does this; with other splits, all questions of a document must be in the same split. Default False:
            training may use all candidates, as in the paper.

    Returns:
        The data set.

    Raises:
        ArgumentError: If an argument is out of range or does not apply to the data set, or a language has no question.
        DataError: If a file is missing or malformed (names the file, the place and the value), or the Hub cannot be
            reached.
    """
    dataset = parse_member(DatasetName, name, "name")
    by = parse_member(SplitBy, split_by, "split_by")
    shares = None if split_fractions is None else check_fractions(split_fractions)
    wanted = None if languages is None else _languages(languages)
    raw = _read(dataset, _folder(dataset, path, hub), wanted, passage_language)
    data = raw.split(by, shares, split_seed, unseen_documents=unseen_documents)
    return data if wanted is None else data.select(languages=wanted)


def _read(
    dataset: DatasetName, folder: Path | None, languages: list[str] | None, passage_language: str | None
) -> RawData:
    if dataset is DatasetName.XQUAD:
        return read_xquad(folder, languages, passage_language or "en")
    if dataset is DatasetName.MLQA:
        return read_mlqa(folder, languages, passage_language or "en")
    if passage_language is not None:
        problem = f"data set {dataset.value!r} has passages in one language only"
        raise ArgumentError("passage_language", problem=problem, hint="leave it out")
    if dataset is DatasetName.RELKT_MINI:
        with resources.as_file(resources.files("relkt.data") / "mini" / CORPUS) as corpus:
            return read_beir(corpus.parent, dataset.value)
    if folder is None:
        alternative: list[str | Parameter] = ["or set ", Parameter("hub"), " to a data set repository on the Hub"]
        hint = "" if dataset is DatasetName.LAREQA else alternative
        raise ArgumentError("path", f"the folder with the files of data set {dataset.value!r}", hint=hint)
    if dataset is DatasetName.LAREQA:
        return read_lareqa(folder)
    return read_xorqa(folder) if dataset is DatasetName.XORQA else read_beir(folder)


def _folder(dataset: DatasetName, path: str | Path | None, hub: str | None) -> Path | None:
    if dataset is DatasetName.RELKT_MINI and path is not None:
        raise ArgumentError(
            "path", f"no path for data set {dataset.value!r}, which is part of the package", repr(str(path))
        )
    if hub is not None:
        if path is not None:
            raise ArgumentError(
                "hub", problem=["excludes ", Parameter("path"), f", got both ({hub!r} and {str(path)!r})"]
            )
        if dataset is DatasetName.BEIR:
            return hub_folder(hub, [CORPUS, QUERIES, f"{QRELS}/*.tsv"])
        if dataset is DatasetName.XORQA:
            return hub_folder(hub, [f"*{name}" for name in (*FILES.values(), ENGLISH_QUESTIONS)])
        raise ArgumentError("hub", problem=f"applies only to 'beir' and 'xorqa', got it for {dataset.value!r}")
    if path is None:
        return None
    folder = Path(path).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataArgumentError("path", "a folder", f"{str(folder)!r}, which {found}")
    return folder


def _languages(languages: Iterable[str]) -> list[str]:
    if isinstance(languages, str):
        raise ArgumentError("languages", "a list of language codes", f"the string {languages!r}")
    wanted = list(dict.fromkeys(languages))
    if not wanted:
        raise ArgumentError("languages", "at least one language code, or None for all", "an empty list")
    return wanted
