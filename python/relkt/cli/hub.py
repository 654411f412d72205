"""``relkt upload`` and ``relkt download``: their options; :mod:`relkt.integrations.hub` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.console import one_line_errors, print_note, print_result


def upload(
    path: Annotated[
        Path, typer.Argument(help="An index file, with its passages file in the same folder; or a model folder.")
    ],
    repo_id: Annotated[str, typer.Argument(help="The repository, e.g. me/wiki. Created if it does not exist.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="For an index: Hub name of its encoder. Required if the index was built with a model from a folder."
        ),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="For an index: license of its passages, for the card, e.g. cc-by-sa-4.0."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, created if it does not exist. Default: main.")] = None,
) -> None:
    """Upload an index or a model to the Hugging Face Hub.

    An index becomes a data set repository, with a card that shows how to open it; a model becomes a model repository.
    Log in first with `hf auth login`, or set `HF_TOKEN`.

    Example: `relkt upload wiki.relkt me/wiki --private`
    """
    with one_line_errors(options={"path": "PATH", "repo_id": "REPO_ID"}):
        from relkt.integrations.hub import upload_index, upload_model

        if path.is_dir():
            if encoder is not None or license_ is not None:
                raise ValueError("--encoder, --license: expected only with an index, got a model folder")
            address = upload_model(path, repo_id, private=private, revision=revision)
        else:
            address = upload_index(path, repo_id, encoder=encoder, license=license_, private=private, revision=revision)
        print_result(address)


def download(
    repo_id: Annotated[str, typer.Argument(help="The data set repository, e.g. me/wiki.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: the cache of the Hugging Face Hub.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="File name of the index, if the repository has several.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit. Default: main.")] = None,
) -> None:
    """Download an index and its passages from the Hugging Face Hub, and print the path.

    Models need no download: every command takes the name of a model on the Hub.

    Example: `relkt search "$(relkt download me/wiki)" "Why does ice float?"`
    """
    with one_line_errors(options={"folder": "--output", "repo_id": "REPO_ID"}):
        from relkt.integrations.hub import download_index

        path = download_index(repo_id, name=name, folder=output, revision=revision)
        print_note(f"ask it with: relkt search {path} QUESTION")
        print_result(str(path))
