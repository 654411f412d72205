"""``relkt mine``: its options, bars and summary; :mod:`relkt.mining_files` does the work."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import err, one_line_errors
from relkt.cli.progress import Bar, progress_bar
from relkt.data import DatasetName, Split
from relkt.data.pair_files import CorpusColumns, PairColumns
from relkt.mining import MiningConditions, Strategy
from relkt.mining_files import (
    MiningOptions,
    MiningSummary,
    NoNegativesError,
    OutputFormat,
    check_apart,
    mine_files,
)

_INPUT, _COLUMNS, _CONDITIONS, _LEFT_OUT = "Input", "Columns", "Conditions", "Passages left out"
_ENCODER, _OUTPUT = "Encoder", "Output"


def mine(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="Pairs of a query and a positive: .jsonl, .parquet, .csv or .tsv; or a folder in the BEIR layout "
            "(corpus.jsonl, queries.jsonl, qrels/); or relkt-mini, which comes with the package."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The .parquet or .jsonl file to write.", rich_help_panel=_OUTPUT)],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Further passages to mine from: such a file, or .txt with one a line. The distinct positives are "
            "always mined from.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="Of a BEIR folder: only the queries of this qrels file.", rich_help_panel=_INPUT),
    ] = None,
    query_column: Annotated[
        str | None, typer.Option(help="Default: anchor, query or question.", rich_help_panel=_COLUMNS)
    ] = None,
    positive_column: Annotated[
        str | None,
        typer.Option(help="A text, or a list of them. Default: positive, answer or passage.", rich_help_panel=_COLUMNS),
    ] = None,
    query_id_column: Annotated[
        str | None, typer.Option(help="Default: query_id or anchor_id, if there.", rich_help_panel=_COLUMNS)
    ] = None,
    positive_id_column: Annotated[
        str | None,
        typer.Option(help="Default: positive_id, answer_id or passage_id, if there.", rich_help_panel=_COLUMNS),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(
            help="The document a positive is from. Default: document or document_id, if there.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    corpus_text_column: Annotated[
        str | None, typer.Option(help="Default: text, passage, positive or answer.", rich_help_panel=_COLUMNS)
    ] = None,
    corpus_id_column: Annotated[
        str | None, typer.Option(help="Default: _id, id or passage_id, if there.", rich_help_panel=_COLUMNS)
    ] = None,
    corpus_document_column: Annotated[
        str | None, typer.Option(help="Default: document or document_id, if there.", rich_help_panel=_COLUMNS)
    ] = None,
    num_negatives: Annotated[
        int, typer.Option(min=1, help="Negatives for each query, at most.", rich_help_panel=_CONDITIONS)
    ] = 3,
    range_min: Annotated[
        int, typer.Option(min=0, help="Pass over so many of the best candidates.", rich_help_panel=_CONDITIONS)
    ] = 0,
    range_max: Annotated[
        int | None,
        typer.Option(
            help="Candidates beyond this rank do not count. Default: no limit; for random, range-min + 10 "
            "num-negatives.",
            rich_help_panel=_CONDITIONS,
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Lowest cosine with the query.", rich_help_panel=_CONDITIONS)
    ] = None,
    max_score: Annotated[
        float | None, typer.Option(help="Highest cosine with the query.", rich_help_panel=_CONDITIONS)
    ] = None,
    absolute_margin: Annotated[
        float | None,
        typer.Option(help="At least so far below the (lowest) positive's score.", rich_help_panel=_CONDITIONS),
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option(help="The same as a share of that score, such as 0.05.", rich_help_panel=_CONDITIONS),
    ] = None,
    max_positive_similarity: Annotated[
        float | None,
        typer.Option(
            help="Passages with a higher cosine with a positive are its near-duplicates, and no negatives.",
            rich_help_panel=_LEFT_OUT,
        ),
    ] = None,
    no_exclude_same_document: Annotated[
        bool,
        typer.Option(
            "--no-exclude-same-document",
            help="Other passages of a positive's document may be negatives. Default: no, where documents are known.",
            rich_help_panel=_LEFT_OUT,
        ),
    ] = False,
    strategy: Annotated[
        Strategy, typer.Option(help="The best of the range, or drawn from it.", rich_help_panel=_CONDITIONS)
    ] = Strategy.TOP,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.", rich_help_panel=_CONDITIONS)] = 0,
    encoder: Annotated[
        str, typer.Option(help="muse, or a model's folder or Hub name.", rich_help_panel=_ENCODER)
    ] = "muse",
    query_prompt: Annotated[
        str | None, typer.Option(help="Put before queries. Default: the model's.", rich_help_panel=_ENCODER)
    ] = None,
    passage_prompt: Annotated[
        str | None, typer.Option(help="Put before passages. Default: the model's.", rich_help_panel=_ENCODER)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts embedded at once.", rich_help_panel=_ENCODER)] = 32,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.", rich_help_panel=_ENCODER),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of embedding and mining. Default: all.", rich_help_panel=_ENCODER),
    ] = None,
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
            "--scores", help="Add cosines (in the labeled formats: instead of labels).", rich_help_panel=_OUTPUT
        ),
    ] = False,
    ids: Annotated[
        bool,
        typer.Option(
            "--ids",
            help="Add columns of the ids of queries and passages, if any. Take them out again before you train: "
            "sentence-transformers takes every column but labels for texts.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the output if it exists, and the work of an unfinished run with other options. (Where only "
            "conditions are others, its embeddings are kept.)",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
) -> None:
    """Mine hard negatives for the pairs of a file.

    All conditions hold inside an exact search, so a query has fewer negatives only where there are no more. No
    negatives are a query's own positives, and passages whose text is one of theirs or the query's.

    Unfinished work is kept in `OUTPUT.work`, after every 1,024 texts embedded and 16,384 queries mined: a run that was
    stopped, by Ctrl-C or even by `kill -9`, goes on from there when the same command is given again, and writes the
    same file.

    Example: `relkt mine relkt-mini --output negatives.parquet --relative-margin 0.05`

    A line of your own .jsonl may be `{"query": "Why is the sky blue?", "positive": "Air scatters blue light."}`
    """
    with one_line_errors("go on with the same command", failures=(NoNegativesError,), worded=_worded):
        check_apart(pairs, output, corpus)
        check_outputs({"--output": output}, overwrite=overwrite)
        check_device(device)
        columns = PairColumns(query_column, positive_column, query_id_column, positive_id_column, document_column)
        corpus_columns = CorpusColumns(corpus_text_column, corpus_id_column, corpus_document_column)
        if corpus is None and corpus_columns != CorpusColumns():
            raise ValueError("--corpus: expected a file to go with the names of its columns, got none")
        with _input(pairs) as given:
            named = [name.replace("_", "-") for name, value in asdict(columns).items() if value is not None]
            if named and given.is_dir():
                options = ", ".join(f"--{name}-column" for name in named)
                raise ValueError(f"{options}: expected only with a file of pairs, got the folder {pairs}")
            summary = mine_files(
                given,
                output,
                corpus=corpus,
                columns=None if columns == PairColumns() else columns,
                corpus_columns=None if corpus_columns == CorpusColumns() else corpus_columns,
                split=split,
                encoder=encoder,
                device=device,
                options=MiningOptions(
                    conditions=MiningConditions(
                        num_negatives=num_negatives,
                        strategy=strategy,
                        range_min=range_min,
                        range_max=range_max,
                        min_score=min_score,
                        max_score=max_score,
                        absolute_margin=absolute_margin,
                        relative_margin=relative_margin,
                        max_positive_similarity=max_positive_similarity,
                        seed=seed,
                    ),
                    exclude_same_document=not no_exclude_same_document,
                    query_prompt=query_prompt,
                    passage_prompt=passage_prompt,
                    batch_size=batch_size,
                ),
                output_format=output_format,
                scores=scores,
                ids=ids,
                threads=threads,
                overwrite=overwrite,
                stages=_stage,
            )
        err.print(_table(summary, num_negatives))
        if (fewer := summary.queries - summary.served) * 2 > summary.queries:
            err.print(
                f"{fewer:,} of {summary.queries:,} queries have fewer than {num_negatives} negatives, as there are no "
                "more under these conditions: loosen them, or give --corpus with more passages",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        err.print(f"wrote {output}: {summary.rows:,} rows", markup=False, highlight=False, soft_wrap=True)


_PARAMETERS = {
    "name_or_path": "--encoder",
    "output_format": "--format",
    "exclude_same_document": "--no-exclude-same-document",
} | {
    name: f"--{name.replace('_', '-')}"
    for name in (
        *("num_negatives", "range_min", "range_max", "min_score", "max_score", "absolute_margin", "relative_margin"),
        *("max_positive_similarity", "query_prompt", "passage_prompt", "batch_size"),
    )
}
"""Parameters of the library by names that are nothing else, and the command's options."""
_NOT_BEFORE, _NOT_AFTER = r"(?<![\w./\\'\"-])", r"(?![\w/\\'\"-]|\.\w)"  # parts of paths, and what was given
_PARAMETER = re.compile(rf"{_NOT_BEFORE}(?:conditions\.|embedding\.)?({'|'.join(_PARAMETERS)}){_NOT_AFTER}")
_SETTING = re.compile(rf"{_NOT_BEFORE}conditions\.(\w+)")
_COLUMN = re.compile(rf"{_NOT_BEFORE}(corpus_)?columns\.(\w+)")
_FIRST = re.compile(r"^(output|corpus|split|device|threads|seed|strategy)(?=:)")


def _worded(message: str) -> str:
    """A message of the library with the command's options in the place of its parameters."""
    message = _PARAMETER.sub(lambda found: _PARAMETERS[found[1]], message)
    message = _SETTING.sub(r"--\1", message)
    message = _COLUMN.sub(
        lambda found: f"--{'corpus-' if found[1] else ''}{found[2].replace('_', '-')}-column", message
    )
    return _FIRST.sub(r"--\1", message)


def _input(pairs: Path) -> AbstractContextManager[Path]:
    if str(pairs) == DatasetName.RELKT_MINI.value and not pairs.exists():
        return resources.as_file(resources.files("relkt.data") / "mini")
    return nullcontext(pairs)


@contextmanager
def _stage(name: str, total: int, done: int) -> Iterator[Bar]:
    """A bar for a stage, which resumes at ``done``."""
    if done:
        err.print(f"{name}: {done:,} of {total:,} done before", markup=False, highlight=False)
    with progress_bar(name, total, done=done, rate="") as bar:
        yield bar


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
        "  same document or text as a positive, or the query's": summary.excluded,
        "  above --max-score or a margin's limit": summary.too_similar,
        "  near-duplicates of a positive": summary.near_positive,
        "  among the --range-min best": summary.range_min,
    }
    if any(reasons.values()):
        table.add_row("passed over, summed over queries", "")
    for reason, passages in reasons.items():
        add(reason, passages, always=False)
    add("pairs given more than once, and used once", summary.repeated_pairs, always=False)
    add("pairs without a row, as negatives are missing", summary.left_out, always=False)
    return table
