"""Options and arguments that several commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.data import DatasetName, SplitBy

ENCODER_PANEL = "Encoder"
"""Heading of the options of the encoder in a command's help."""

_MODEL = "`muse`, `e5-small`, a folder, or a name on the Hugging Face Hub"

# An option has the name of the parameter that it annotates, e.g. `encoder: ModelOption` is `--encoder`.
ModelOption = Annotated[str, typer.Option(help=f"{_MODEL}.", rich_help_panel=ENCODER_PANEL)]
ModelArgument = Annotated[str, typer.Argument(help=f"The encoder: {_MODEL}.")]
MovedModelOption = Annotated[
    str | None,
    typer.Option(
        help="Folder or Hub name of the index's encoder, if it has moved since the index was built.",
        rich_help_panel=ENCODER_PANEL,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1 or mps. Default: a GPU if available.", rich_help_panel=ENCODER_PANEL),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Texts per batch.", rich_help_panel=ENCODER_PANEL)]
QueryPromptOption = Annotated[
    str | None,
    typer.Option(
        help='Text to put before each query, e.g. "query: ". Default: the model\'s.', rich_help_panel=ENCODER_PANEL
    ),
]
PassagePromptOption = Annotated[
    str | None,
    typer.Option(
        help='Text to put before each passage, e.g. "passage: ". Default: the model\'s.', rich_help_panel=ENCODER_PANEL
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Number of threads. Default: one per core.")]

DataOption = Annotated[DatasetName, typer.Option("--data", help="The data set.")]
OptionalDataOption = Annotated[DatasetName | None, typer.Option("--data", help="The data set.")]
PathOption = Annotated[
    Path | None,
    typer.Option("--path", help="Folder with the data set's files. Default: download (xquad and mlqa only)."),
]
LanguagesOption = Annotated[
    str | None, typer.Option(help="Comma-separated languages of the questions, e.g. en,th,de. Default: all.")
]
SplitByOption = Annotated[SplitBy, typer.Option(help="Unit of the split into train, dev and test.")]
UnseenDocumentsOption = Annotated[
    bool,
    typer.Option(
        "--unseen-documents",
        help="Exclude the documents of dev and test questions from training: passages, translations and questions. "
        "--split-by document does this by itself; any other split must not divide the questions of a document.",
    ),
]
SplitSeedOption = Annotated[
    int | None, typer.Option(help="Seed of the split, unless the data set's official split is used. Default: 42.")
]

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


def codes(text: str | None) -> tuple[str, ...] | None:
    """The language codes of a comma-separated option; None if the option is not given."""
    return None if text is None else tuple(code.strip() for code in text.split(",") if code.strip())
