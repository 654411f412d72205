"""``relkt mine``: its options, progress bars and summary; :mod:`relkt.mining_files` does the work."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from typing_extensions import Unpack

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.condition_options import EXCLUSIONS_PANEL, with_condition_options
from relkt.cli.console import err, one_line_errors, print_note
from relkt.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ModelOption,
    PassagePromptOption,
    QueryPromptOption,
    ThreadsOption,
)
from relkt.cli.progress import Bar, progress_bar
from relkt.data import DatasetName, Split
from relkt.data.pair_files import CorpusColumns, PairColumns
from relkt.errors import ArgumentError
from relkt.mining import MiningConditions
from relkt.mining.conditions import ConditionArgs
from relkt.mining_files import (
    MiningOptions,
    MiningSummary,
    NoNegativesError,
    OutputFormat,
    check_apart,
    mine_files,
)

_INPUT, _COLUMNS, _OUTPUT = "Input", "Columns", "Output"

_OPTIONS = {
    "pairs": "PAIRS",
    "name_or_path": "--encoder",
    "weights": "--encoder",
    "output_format": "--format",
    "exclude_same_document": "--no-exclude-same-document",
    "conditions.exclude_same_document": "--no-exclude-same-document",
    **{f"columns.{field.name}": f"--{field.name.replace('_', '-')}-column" for field in fields(PairColumns)},
    **{f"corpus_columns.{field.name}": f"--corpus-{field.name}-column" for field in fields(CorpusColumns)},
}
"""Parameter of the library -> its option or argument, where the spelling differs."""


# Long: one parameter per option.
@with_condition_options
def mine(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="Pairs of a query and a positive: a .jsonl, .parquet, .csv or .tsv file, or a folder in the BEIR "
            "layout (corpus.jsonl, queries.jsonl, qrels/), or relkt-mini, a sample that comes with the package."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The .parquet or .jsonl file to write.", rich_help_panel=_OUTPUT)],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="More passages that may become negatives: a file like PAIRS, or .txt with one passage per line. The "
            "positives of other queries are always candidates.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="Use only the queries of this qrels file of a BEIR folder.", rich_help_panel=_INPUT),
    ] = None,
    query_column: Annotated[
        str | None, typer.Option(help="Default: anchor, query or question.", rich_help_panel=_COLUMNS)
    ] = None,
    positive_column: Annotated[
        str | None,
        typer.Option(
            help="Column of texts or lists of texts. Default: positive, answer or passage.", rich_help_panel=_COLUMNS
        ),
    ] = None,
    query_id_column: Annotated[
        str | None, typer.Option(help="Default: query_id or anchor_id, if present.", rich_help_panel=_COLUMNS)
    ] = None,
    positive_id_column: Annotated[
        str | None,
        typer.Option(help="Default: positive_id, answer_id or passage_id, if present.", rich_help_panel=_COLUMNS),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(
            help="Document of the positive. Default: document or document_id, if present.", rich_help_panel=_COLUMNS
        ),
    ] = None,
    corpus_text_column: Annotated[
        str | None, typer.Option(help="Default: text, passage, positive or answer.", rich_help_panel=_COLUMNS)
    ] = None,
    corpus_id_column: Annotated[
        str | None, typer.Option(help="Default: _id, id or passage_id, if present.", rich_help_panel=_COLUMNS)
    ] = None,
    corpus_document_column: Annotated[
        str | None, typer.Option(help="Default: document or document_id, if present.", rich_help_panel=_COLUMNS)
    ] = None,
    no_exclude_same_document: Annotated[
        bool,
        typer.Option(
            "--no-exclude-same-document",
            help="Allow negatives from a positive's document. By default they are excluded if documents are known.",
            rich_help_panel=EXCLUSIONS_PANEL,
        ),
    ] = False,
    encoder: ModelOption = "muse",
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    batch_size: BatchSizeOption = 32,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    output_format: Annotated[
        OutputFormat,
        typer.Option(
            "--format",
            help="triplet: anchor, positive, negative. n-tuple: anchor, positive, negative_1, ..., for queries with "
            "all their negatives. labeled-pair: anchor, passage, label. labeled-list: anchor, passages, labels.",
            rich_help_panel=_OUTPUT,
        ),
    ] = OutputFormat.TRIPLET,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores", help="Add cosines; in the labeled formats they replace the labels.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    ids: Annotated[
        bool,
        typer.Option(
            "--ids",
            help="Add columns of query and passage ids, if the input has ids. Remove them before training: "
            "sentence-transformers treats every column except labels as text.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing output, or the saved work of an unfinished run that had other options. "
            "Embeddings are kept if only conditions differ.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    **conditions: Unpack[ConditionArgs],
) -> None:
    """Mine hard negatives for the pairs of a file.

    All conditions are applied inside an exact search, so a query gets fewer negatives only if too few passages meet
    them. A query's positives, and passages with the text of a positive or of the query, are never negatives.

    Finished work is saved in `OUTPUT.work` after every 1,024 texts embedded and 16,384 queries mined. If the run is
    interrupted, even by `kill -9`, the same command resumes it and writes the same file.

    Example: `relkt mine relkt-mini --output negatives.parquet --relative-margin 0.05`

    A line of a .jsonl file: `{"query": "Why is the sky blue?", "positive": "Air scatters blue light."}`
    """
    with one_line_errors("run the same command to resume", failures=(NoNegativesError,), options=_OPTIONS):
        check_apart(pairs, output, corpus)
        check_outputs({"--output": output}, overwrite=overwrite)
        check_device(device)
        columns = PairColumns(query_column, positive_column, query_id_column, positive_id_column, document_column)
        corpus_columns = CorpusColumns(corpus_text_column, corpus_id_column, corpus_document_column)
        options = MiningOptions(
            conditions=MiningConditions(**conditions),
            exclude_same_document=not no_exclude_same_document,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            batch_size=batch_size,
        )
        with _input(pairs) as given:
            _check_columns(columns, corpus_columns, pairs, given, corpus)
            summary = mine_files(
                given,
                output,
                corpus=corpus,
                columns=None if columns == PairColumns() else columns,
                corpus_columns=None if corpus_columns == CorpusColumns() else corpus_columns,
                split=split,
                encoder=encoder,
                device=device,
                options=options,
                output_format=output_format,
                scores=scores,
                ids=ids,
                threads=threads,
                overwrite=overwrite,
                stages=_stage,
            )
        _print_summary(summary, options.conditions.num_negatives, output)


def _check_columns(
    columns: PairColumns, corpus_columns: CorpusColumns, pairs: Path, given: Path, corpus: Path | None
) -> None:
    """Checks that column names are given only for input that has columns."""
    if corpus is None and corpus_columns != CorpusColumns():
        raise ArgumentError("corpus", "a file, because names of its columns are given", "no file")
    named = [f"columns.{name}" for name, value in asdict(columns).items() if value is not None]
    if named and given.is_dir():
        raise ArgumentError(", ".join(named), "no column names for a folder", f"the folder {pairs}")


def _input(pairs: Path) -> AbstractContextManager[Path]:
    if str(pairs) == DatasetName.RELKT_MINI.value and not pairs.exists():
        return resources.as_file(resources.files("relkt.data") / "mini")
    return nullcontext(pairs)


def _stage(name: str, total: int, done: int) -> AbstractContextManager[Bar]:
    """The bar of a stage, which starts at the number of finished items."""
    if done:
        print_note(f"{name}: {done:,} of {total:,} done before")
    return progress_bar(name, total, done=done, rate="")


def _print_summary(summary: MiningSummary, num_negatives: int, output: Path) -> None:
    err.print(_table(summary, num_negatives))
    if (fewer := summary.queries - summary.served) * 2 > summary.queries:
        print_note(
            f"{fewer:,} of {summary.queries:,} queries have fewer than {num_negatives} negatives, because no more "
            "passages meet these conditions: loosen them, or give --corpus with more passages"
        )
    print_note(f"wrote {output}: {summary.rows:,} rows")


def _table(summary: MiningSummary, num_negatives: int) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")

    def add(name: str, value: int | float, *, always: bool = True) -> None:
        if always or value:
            shown = f"{value:,}" if isinstance(value, int) else "none" if math.isnan(value) else f"{value:.4f}"
            table.add_row(name, shown)

    add("queries", summary.queries)
    add(f"  with all {num_negatives} negatives", summary.served)
    add("  with fewer", summary.partly_served, always=False)
    add("  with none", summary.unserved, always=False)
    add("passages", summary.passages)
    add("negatives", summary.negatives)
    add("mean score of positives", summary.positive_score)
    add("mean score of negatives", summary.negative_score)
    reasons = {
        "  same document or text as a positive, or text of the query": summary.excluded,
        "  above --max-score or the limit of a margin": summary.too_similar,
        "  near-duplicates of a positive": summary.near_positive,
        "  among the top --range-min": summary.range_min,
    }
    if any(reasons.values()):
        table.add_row("skipped (total over queries)", "")
    for reason, passages in reasons.items():
        add(reason, passages, always=False)
    add("repeated pairs, each used once", summary.repeated_pairs, always=False)
    add("pairs without a row because negatives are missing", summary.left_out, always=False)
    return table
