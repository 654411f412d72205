"""The program ``relkt``: its general options and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from relkt import __version__
from relkt.cli.bench import bench
from relkt.cli.console import print_result, settings
from relkt.cli.demo import demo
from relkt.cli.encode import encode
from relkt.cli.evaluate import evaluate
from relkt.cli.export import export
from relkt.cli.hub import download, upload
from relkt.cli.index import index
from relkt.cli.info import info
from relkt.cli.mine import mine
from relkt.cli.reproduce import reproduce
from relkt.cli.search import search
from relkt.cli.serve import serve
from relkt.cli.train import train

app = typer.Typer(name="relkt", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")] = False,
) -> None:
    """Train cross-lingual retrievers and search with them: a question in any language finds its answer among English
    passages."""
    settings.traceback = traceback
    if version:
        print_result(f"relkt {__version__}")
        raise typer.Exit


COMMANDS = (demo, train, evaluate, encode, index, search, info, mine, reproduce, serve, bench, export, upload, download)
"""In the order of the help."""

for command in COMMANDS:
    app.command()(command)
