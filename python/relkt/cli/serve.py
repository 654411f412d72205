"""What ``relkt serve`` does."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from relkt.cli.checks import check_device
from relkt.cli.console import err, one_line_errors

_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def serve(
    index: Annotated[Path, typer.Argument(help="An index with passages, as `relkt index` writes it.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all. By default only this machine can ask.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RELKT_TOKEN",
            help="What page and API need: at least 16 characters. Others on this machine can read the command line; "
            "the environment variable is the better place.",
        ),
    ] = None,
    example: Annotated[
        list[str] | None, typer.Option(help="A question to be asked by a click; may be repeated.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of `relkt train` or `relkt reproduce`, shown in a second tab.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which browsers may call the server, such as search.example.org or *.example.org, beside "
            "this machine's own for itself; may be repeated. By default those alone on a loopback address, any "
            "elsewhere."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The index's encoder, if it is elsewhere now: a folder or Hub name.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.")] = None,
) -> None:
    """Serve an index as a web page and a JSON API.

    The page takes a question in any language and shows the ranked passages with their best sentences. The API beside
    it is described at `/docs` and `/openapi.json`. Nothing is fetched from or sent to other hosts, but for an encoder
    of the Hub.

    Example: `relkt serve wiki.relkt --example "¿Por qué flota el hielo?"`
    """
    with one_line_errors():
        if token == "" or (token is None and os.environ.get("RELKT_TOKEN") == ""):
            # Whoever sets one wants one.
            raise ValueError("--token, RELKT_TOKEN: expected a text of at least 16 characters, got an empty one")
        run_serve(index, host, port, token, tuple(example or ()), run, tuple(allowed_host or ()), model, device)


def run_serve(
    index: Path,
    host: str,
    port: int,
    token: str | None,
    examples: tuple[str, ...],
    run: Path | None,
    allowed_hosts: tuple[str, ...],
    model: str | None,
    device: str | None,
) -> None:
    """Opens the index, loads its encoder, and serves until interrupted."""
    from relkt.app.server import LOOPBACK_NAMES, bind, create_app, is_loopback, run_server
    from relkt.app.service import SearchService
    from relkt.retrieval import Retriever

    check_device(device)
    for name in allowed_hosts:
        if not _HOST.fullmatch(name):
            raise ValueError(
                "--allowed-host: expected a name such as search.example.org, *.example.org or 192.0.2.7, got "
                f"{name!r}; no scheme, no port"
            )
    is_local = is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    # A page elsewhere may name this machine by a name of its own; browsers would let it ask then.
    names = [*LOOPBACK_NAMES, shown, *map(str.lower, allowed_hosts)]
    service = SearchService(Retriever.open(index, encoder=model, device=device))
    with warnings.catch_warnings():
        # Of Gradio, about its own future.
        warnings.simplefilter("ignore", DeprecationWarning)
        app = create_app(
            service,
            examples=examples,
            run=run,
            token=token,
            allowed_hosts=names if is_local or allowed_hosts else None,
        )
    listening = bind(host, port)
    with err.status("loading the encoder"):
        service.warm_up()
    if not is_local and not token:
        err.print(
            "[bold yellow]warning:[/] everyone who reaches this machine can read the index and ask; "
            "set RELKT_TOKEN, or give --token, to keep others out",
            highlight=False,
            soft_wrap=True,
        )
    url = f"http://{shown}:{listening.getsockname()[1]}"
    what = f"{len(service.retriever):,} passages of {service.name}"
    err.print(
        f"serving {escape(what)} on [bold]{escape(url)}[/] (API: {escape(url)}/docs); Ctrl-C ends",
        highlight=False,
        soft_wrap=True,
    )
    with suppress(KeyboardInterrupt):  # how one ends a server
        run_server(app, listening, connections=service.limits.connections)
