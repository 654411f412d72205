"""``relkt index``: its options and notes; :mod:`relkt.retrieval` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.checks import check_device
from relkt.cli.console import one_line_errors, print_note, print_warning
from relkt.cli.options import BatchSizeOption, DeviceOption, ModelOption, PassagePromptOption, QueryPromptOption
from relkt.cli.progress import Bar, progress_bar
from relkt.retrieval.kinds import Storage, TextUnit
from relkt.retrieval.progress import IndexProgress

_COLUMNS = "Columns"


# Long: one parameter per option.
def index(
    passages: Annotated[
        list[Path],
        typer.Argument(
            help="Passages: .jsonl, .parquet, .csv or .tsv with a column `text`; .txt or .md; or a folder, in the BEIR "
            "layout (corpus.jsonl) or with files of these kinds."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="The index file, e.g. wiki.relkt; the texts are stored next to it, in wiki.passages.arrow."),
    ],
    model: ModelOption = "muse",
    text_column: Annotated[str, typer.Option(help="The text to embed.", rich_help_panel=_COLUMNS)] = "text",
    id_column: Annotated[
        str | None,
        typer.Option(help="The id. Default: _id or id if present, otherwise the row number.", rich_help_panel=_COLUMNS),
    ] = None,
    title_column: Annotated[
        str | None, typer.Option(help="The title. Default: title, if present.", rich_help_panel=_COLUMNS)
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(help="The passage's document. Default: document, if present.", rich_help_panel=_COLUMNS),
    ] = None,
    language_column: Annotated[
        str | None,
        typer.Option(help="The passage's language. Default: language, if present.", rich_help_panel=_COLUMNS),
    ] = None,
    drop_column: Annotated[
        list[str] | None, typer.Option(help="A column to leave out. May be repeated.", rich_help_panel=_COLUMNS)
    ] = None,
    unit: Annotated[TextUnit, typer.Option(help="Unit of plain text that becomes a passage.")] = TextUnit.LINE,
    storage: Annotated[
        Storage,
        typer.Option(help="Number format of the embeddings; float16 halves the file and rounds the embeddings."),
    ] = Storage.FLOAT32,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    batch_size: BatchSizeOption = 32,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing index or an unfinished one.")
    ] = False,
    device: DeviceOption = None,
) -> None:
    """Embed passages into an index file, and store their texts next to it.

    All other columns, except embeddings, are stored too, for display and filters. If the command is interrupted or
    killed, run it again to continue.

    Example: `relkt index passages.jsonl --output wiki.relkt`
    """
    resume = f"to continue, run the same command (progress is saved next to {output})"
    with one_line_errors(resume, options={"path": "PASSAGES", "columns": "--text-column"}):
        check_device(device)
        from relkt.retrieval import Columns, build_index, check_output, read_passages

        dropped = tuple(drop_column or [])
        named = Columns(text_column, id_column, title_column, document_column, language_column, dropped)
        columns = None if named == Columns() else named
        source = read_passages(passages, columns=columns, unit=unit)
    with one_line_errors(resume, options={"path": "--output", "name_or_path": "--model"}):
        check_output(output, overwrite=overwrite)
        with progress_bar("loading the encoder", rate="passages") as bar:
            from relkt.encoders import load_encoder

            progress = _BuildProgress(bar)
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
            print_warning(progress.note, kind="note")
        print_note(f"wrote {output}: {rows} passages; ask it with: relkt search {output} QUESTION")


class _BuildProgress(IndexProgress):
    """Shows the progress of a build on one bar.

    Attributes:
        note: A remark to print at the end.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self.note = ""

    def activity(self, name: str) -> None:
        """Shows the current activity."""
        self._bar.restart(name)

    def encoding(self, total: int, done: int) -> None:
        """Starts the count of passages."""
        self._bar.restart("encoding", total, done)

    def encoded(self, passages: int) -> None:
        """Counts passages."""
        self._bar(passages)

    def truncated(self, passages: int, limit: int) -> None:
        """Stores a remark to print at the end."""
        self.note = (
            f"{passages} passages are longer than the model's limit of {limit} tokens; split long passages, or text "
            "past the limit cannot be found"
        )
