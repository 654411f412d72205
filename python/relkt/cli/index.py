"""``relkt index``: its options, bars and notes; :mod:`relkt.retrieval` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.checks import check_device
from relkt.cli.console import err, one_line_errors
from relkt.cli.progress import Bar, progress_bar
from relkt.retrieval.kinds import Storage, TextUnit
from relkt.retrieval.progress import IndexProgress

_COLUMNS, _ENCODER = "Columns", "Encoder"
_OPTIONS = {"path": "--output", "name_or_path": "--model"}


def index(
    passages: Annotated[
        list[Path],
        typer.Argument(
            help="Passages: .jsonl, .parquet, .csv or .tsv with a column `text`; .txt or .md; or a folder, of the BEIR "
            "layout (corpus.jsonl) or of such files."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="The index file, e.g. wiki.relkt; the texts go into wiki.passages.arrow beside it.")
    ],
    model: Annotated[
        str, typer.Option(help="muse, or a model's folder or Hub name.", rich_help_panel=_ENCODER)
    ] = "muse",
    text_column: Annotated[str, typer.Option(help="What is embedded.", rich_help_panel=_COLUMNS)] = "text",
    id_column: Annotated[
        str | None,
        typer.Option(help="Default: _id or id, if there is one; else the row's number.", rich_help_panel=_COLUMNS),
    ] = None,
    title_column: Annotated[
        str | None, typer.Option(help="Default: title, if there is one.", rich_help_panel=_COLUMNS)
    ] = None,
    document_column: Annotated[
        str | None, typer.Option(help="Default: document, if there is one.", rich_help_panel=_COLUMNS)
    ] = None,
    language_column: Annotated[
        str | None, typer.Option(help="Default: language, if there is one.", rich_help_panel=_COLUMNS)
    ] = None,
    drop_column: Annotated[
        list[str] | None, typer.Option(help="A column that is not kept. May be repeated.", rich_help_panel=_COLUMNS)
    ] = None,
    unit: Annotated[TextUnit, typer.Option(help="What is a passage in plain text.")] = TextUnit.LINE,
    storage: Annotated[
        Storage, typer.Option(help="Number format of the embeddings: float16 halves the file, and rounds them.")
    ] = Storage.FLOAT32,
    query_prompt: Annotated[
        str | None,
        typer.Option(help='Put before questions, e.g. "query: ". Default: the model\'s.', rich_help_panel=_ENCODER),
    ] = None,
    passage_prompt: Annotated[
        str | None,
        typer.Option(help='Put before passages, e.g. "passage: ". Default: the model\'s.', rich_help_panel=_ENCODER),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Passages encoded at once.", rich_help_panel=_ENCODER)] = 32,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an index that exists, or an unfinished one."),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.", rich_help_panel=_ENCODER),
    ] = None,
) -> None:
    """Embed passages into an index file, with their texts beside it.

    All other columns are kept too, to be shown and filtered by, but for embeddings. Stopped by Ctrl-C or killed, the
    same command goes on where it was.

    Example: `relkt index passages.jsonl --output wiki.relkt`
    """
    with one_line_errors(f"to resume, run the same command (progress is saved next to {output})", options=_OPTIONS):
        check_device(device)
        from relkt.retrieval import Columns, build_index, check_output, read_passages

        dropped = tuple(drop_column or [])
        named = Columns(text_column, id_column, title_column, document_column, language_column, dropped)
        columns = None if named == Columns() else named
        source = read_passages(passages, columns=columns, unit=unit)
        check_output(output, overwrite=overwrite)
        with progress_bar("loading the encoder", rate="passages") as bar:
            progress = _BuildProgress(bar)
            from relkt.encoders import load_encoder

            rows = build_index(
                source,
                output,
                encoder=load_encoder(model, device=device),
                encoder_name=model,
                storage=storage,
                batch_size=batch_size,
                query_prompt=query_prompt,
                passage_prompt=passage_prompt,
                overwrite=overwrite,
                progress=progress,
            )
        if progress.note:
            err.print(f"[yellow]note:[/] {progress.note}", highlight=False, soft_wrap=True)
        note = f"wrote {output}: {rows} passages; ask it with: relkt search {output} QUESTION"
        err.print(note, markup=False, highlight=False, soft_wrap=True)


class _BuildProgress(IndexProgress):
    """Shows the progress of a build on one bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self.note = ""

    def activity(self, name: str) -> None:
        """Shows the current activity."""
        self._bar.restart(name)

    def encoding(self, total: int, done: int) -> None:
        """Begins to count."""
        self._bar.restart("encoding", total, done)

    def encoded(self, passages: int) -> None:
        """Counts."""
        self._bar(passages)

    def truncated(self, passages: int, limit: int) -> None:
        """Keeps a note for the end."""
        self.note = (
            f"{passages} passages are longer than the model's {limit} tokens: it sees only their start; shorter "
            "passages would be found by their ends, too"
        )
