"""``relkt evaluate``: its options, and a report for each level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import one_line_errors, print_result
from relkt.cli.options import (
    DataOption,
    DeviceOption,
    LanguagesOption,
    ModelArgument,
    PathOption,
    SplitByOption,
    SplitSeedOption,
    codes,
)
from relkt.cli.progress import progress_bar
from relkt.data import DatasetName, Level, RetrievalData, Split, SplitBy, load_data
from relkt.storage import atomic_write

if TYPE_CHECKING:
    from relkt.evaluation import Report

METRICS_DEPTH = 10
"""Cutoff of the deepest metric; ``--k`` must be at least this number."""


# Long: one parameter per option.
def evaluate(
    model: ModelArgument,
    data: DataOption,
    path: PathOption = None,
    split: Annotated[Split, typer.Option(help="Split whose questions are evaluated.")] = Split.TEST,
    level: Annotated[
        list[Level] | None,
        typer.Option(
            help="Candidates to rank: passages, whole documents, or documents by their best passage. May be repeated. "
            "Default: all three; for lareqa, whose passages are sentences, passage."
        ),
    ] = None,
    languages: LanguagesOption = None,
    trained_languages: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated training languages of the model, a subset of the evaluated languages. The results "
            "include their mean and the mean of the other languages. Default: from the model's training run, if known."
        ),
    ] = None,
    split_by: SplitByOption = SplitBy.AUTO,
    split_seed: SplitSeedOption = None,
    full_ranking: Annotated[
        bool,
        typer.Option(
            "--full-ranking",
            help="Also measure mean average precision (mAP) over all candidates. Always on for lareqa.",
        ),
    ] = False,
    k: Annotated[
        int, typer.Option("--k", min=METRICS_DEPTH, help="Ranks per question in the --run file.")
    ] = METRICS_DEPTH,
    json: Annotated[Path | None, typer.Option("--json", help="Write the results to this JSON file.")] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Write the ranking to this file in TREC format; needs one --level.")
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option("--qrels", help="Write the judgements to this file, also in TREC format."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
    device: DeviceOption = None,
) -> None:
    """Measure P@1, P@5, P@10, MRR@10 and nDCG@10 per language, with 95 % bootstrap intervals.

    `--data lareqa` is LAReQA's task: the pool has sentences in 11 languages, and a question's answer must be found in
    every one of them. The metric is mean average precision. LAReQA uses XQuAD's questions. Evaluate a model that was
    trained on XQuAD with `--split-by question`, which selects the test questions of that training.

    Example: `relkt evaluate muse --data relkt-mini --level passage`
    """
    with one_line_errors():
        is_lareqa = data is DatasetName.LAREQA
        levels = tuple(level or ((Level.PASSAGE,) if is_lareqa else Level))
        if (run or qrels) and len(levels) != 1:
            raise ValueError("--run, --qrels: expected exactly one --level, because each level has its own ranking")
        check_outputs({"--json": json, "--run": run, "--qrels": qrels}, overwrite=overwrite)
        trained = codes(trained_languages)
        if trained == ():
            raise ValueError("--trained-languages: expected at least one language code, got an empty value")
        check_device(device)
        loaded = load_data(data, path=path, languages=codes(languages), split_by=split_by, split_seed=split_seed)
        if trained is None:
            trained = trained_in(model)
        elif unknown := [code for code in trained if code not in loaded.languages]:
            raise ValueError(
                f"--trained-languages: expected languages among {', '.join(loaded.languages)}, got {', '.join(unknown)}"
            )
        loaded = loaded.select(split=split)
        if not loaded.queries:
            raise ValueError(f"--split: the {split.value} split of data set {loaded.name!r} has no questions")
        reports = _reports(model, loaded, levels, split, trained, k, device, full_ranking=full_ranking or is_lareqa)
        for report in reports:
            print_result(report.to_markdown())
        if json:
            _write_json(reports, json)
        if run:
            reports[0].write_run(run)
        if qrels:
            reports[0].write_qrels(qrels)


def trained_in(model: str) -> tuple[str, ...] | None:
    """The languages that a model was trained in, according to the configuration of its training run.

    Args:
        model: The model as the user names it. Only the folder ``model`` of a finished run counts, so that an unrelated
            ``config.toml`` is never read.

    Returns:
        The languages; None if the model has no training run, or was trained in all languages of its data set.
    """
    from relkt.training import TrainConfig

    folder = Path(model).expanduser().resolve()
    config = folder.with_name("config.toml")
    is_of_run = folder.is_dir() and folder.name == "model" and config.is_file()
    if not (is_of_run and folder.with_name("results.json").is_file()):
        return None
    return TrainConfig.from_toml(config).languages or None


def _reports(
    model: str,
    data: RetrievalData,
    levels: tuple[Level, ...],
    split: Split,
    trained: tuple[str, ...] | None,
    k: int,
    device: str | None,
    *,
    full_ranking: bool,
) -> list[Report]:
    """A report for each level; every text is encoded once."""
    from relkt.encoders import encode_passages, encode_queries, load_encoder
    from relkt.evaluation import evaluate_embeddings

    encoder = load_encoder(model, device=device)
    # The two levels that rank passages share their embeddings.
    texts = {level: data.candidates(level).texts for level in levels}
    distinct = {texts[level]: level for level in reversed(levels)}
    with progress_bar("encoding", len(data.queries) + sum(len(candidates) for candidates in distinct)) as bar:
        queries = encode_queries(encoder, [q.text for q in data.queries], progress=bar)
        embedded = {candidates: encode_passages(encoder, candidates, progress=bar) for candidates in distinct}
    return [
        evaluate_embeddings(
            queries,
            embedded[texts[level]],
            data,
            split=split,
            level=level,
            trained_languages=trained,
            full_ranking=full_ranking,
            k=k,
        )
        for level in levels
    ]


def _write_json(reports: Sequence[Report], path: Path) -> None:
    text = "[\n" + ",\n".join(report.to_json().strip() for report in reports) + "\n]\n"
    atomic_write(path, text)
