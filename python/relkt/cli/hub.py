"""``relkt upload`` and ``relkt download``: their options and notes; :mod:`relkt.integrations.hub` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.console import err, one_line_errors, out

RevisionOption = Annotated[str | None, typer.Option(help="Branch; made if there is none. Default: main.")]


def upload(
    path: Annotated[Path, typer.Argument(help="An index file, its passages beside it; or a model's folder.")],
    repo_id: Annotated[str, typer.Argument(help="The repository, e.g. me/wiki; made if there is none.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Of an index: the encoder's name on the Hub; needed if the index was built with a model in a folder."
        ),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Of an index's passages, for its card, e.g. cc-by-sa-4.0.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    revision: RevisionOption = None,
) -> None:
    """Put an index, or a model, on the Hugging Face Hub.

    An index becomes a data set repository with a card that says how to open it, a model a model repository. Log in
    first (`hf auth login`), or set `HF_TOKEN`.

    Example: `relkt upload wiki.relkt me/wiki --private`
    """
    with one_line_errors(worded=_worded):
        if path.is_dir() and (encoder is not None or license_ is not None):
            raise ValueError("--encoder, --license: expected for an index only, got a folder; leave them out")
        from relkt.integrations.hub import upload_index, upload_model

        if path.is_dir():
            address = upload_model(path, repo_id, private=private, revision=revision)
        else:
            address = upload_index(path, repo_id, encoder=encoder, license=license_, private=private, revision=revision)
        out.print(address, markup=False, highlight=False, soft_wrap=True)


def download(
    repo_id: Annotated[str, typer.Argument(help="The data set repository, e.g. me/wiki.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: the cache of the Hub's files.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Which index, if the repository holds several.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: main.")] = None,
) -> None:
    """Get an index with its passages from the Hugging Face Hub, and print where it is.

    Models need no command: wherever a model is asked for, its name on the Hub will do.

    Example: `relkt search "$(relkt download me/wiki)" "Why does ice float?"`
    """
    with one_line_errors(worded=_worded):
        from relkt.integrations.hub import download_index

        path = download_index(repo_id, name=name, folder=output, revision=revision)
        err.print(f"ask it with: relkt search {path} QUESTION", markup=False, highlight=False, soft_wrap=True)
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)


def _worded(message: str) -> str:
    """The library's message in the words of the command."""
    for argument, option in (("encoder: ", "--encoder: "), ("folder: ", "--output: "), ("name: ", "--name: ")):
        if message.startswith(argument):
            return option + message.removeprefix(argument)
    return message
