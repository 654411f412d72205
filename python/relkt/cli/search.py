"""``relkt search``: its options and output; :mod:`relkt.retrieval` does the work."""

from __future__ import annotations

import json as json_format
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import err, one_line_errors, out, print_note
from relkt.cli.options import DeviceOption, MovedModelOption, ThreadsOption
from relkt.cli.questions import read_questions

if TYPE_CHECKING:
    from relkt.retrieval import PassageStore, RetrievedPassage

BLOCK = 64
"""Number of questions whose passages are in memory at a time."""
SNIPPET = 240
"""Maximum number of characters of a passage in the table."""


# Long: one parameter per option.
def search(
    index: Annotated[Path, typer.Argument(help="An index file written by `relkt index`.")],
    questions: Annotated[
        list[str] | None, typer.Argument(help="Questions, in any language. Default: those of --file.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            help="File with one question per line: plain text, or JSON lines with `text` and optionally `_id` or `id`. "
            "Use - for stdin.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Passages per question.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Search only passages with this value. May be repeated: different columns combine with AND, values of "
            "one column with OR.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show whole passages instead of their beginnings.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object per question to stdout.")] = False,
    run: Annotated[Path | None, typer.Option("--run", help="Write the ranking to this file in TREC format.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the --run file if it exists.")] = False,
    threads: ThreadsOption = None,
    model: MovedModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Find the passages with the highest cosine similarity to each question, exactly.

    Example: `relkt search wiki.relkt "ทำไมทะเลถึงมีน้ำขึ้นน้ำลง"`
    """
    with one_line_errors():
        check_outputs({"--run": run}, overwrite=overwrite)
        ids, texts = read_questions(questions, file)
        if questions and len(questions) == 1 and os.path.isfile(questions[0]):  # noqa: PTH113 - of any text
            print_note(f"note: {questions[0]} is searched for as a question; to ask the questions in it, use --file")
        check_device(device)
        from relkt.retrieval import Retriever

        clock = _Stopwatch()
        with clock.measure("open"), _passages_for_index(index):
            retriever = Retriever.open(index, encoder=model, device=device)
        wanted = _where(where or (), retriever.passages)
        with clock.measure("load"), err.status(f"loading the encoder {escape(model or retriever.encoder_name or '')}"):
            _ = retriever.encoder
        with clock.measure("encode"), err.status("encoding"):
            embeddings = retriever.encode(texts)
        with _open_run(run) as ranks:
            for start in range(0, len(texts), BLOCK):
                block = slice(start, start + BLOCK)
                with clock.measure("search"):
                    results = retriever.search_embeddings(embeddings[block], k, where=wanted, threads=threads)
                for question_id, text, found in zip(ids[block], texts[block], results, strict=True):
                    if ranks is not None:
                        _write_run(ranks, question_id, found)
                    if json:
                        record = _record(question_id, text, found)
                        out.file.write(json_format.dumps(record, ensure_ascii=False) + "\n")
                    else:
                        _show(text, found, full=full)
        print_note(
            f"{len(texts)} question{'s' if len(texts) > 1 else ''}, {len(retriever)} passages: "
            f"index opened and searched in {1000 * (clock.seconds['open'] + clock.seconds['search']):.0f} ms, encoder "
            f"loaded in {clock.seconds['load']:.1f} s, questions encoded in {1000 * clock.seconds['encode']:.0f} ms",
            style="dim",
        )


class _Stopwatch:
    """Adds up the seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start


@contextmanager
def _passages_for_index(index: Path) -> Iterator[None]:
    """If the user gives a file of passages instead of an index, explains how to index that file."""
    from relkt._relkt import IndexFileError
    from relkt.retrieval.sources import ENDINGS

    try:
        yield
    except IndexFileError as error:
        if index.suffix.lower() not in ENDINGS:
            raise
        raise ValueError(
            f"INDEX: expected an index file, got {index}; to index the passages in it, run: "
            f"relkt index {index} --output {index.with_suffix('.relkt')}"
        ) from error


def _where(conditions: Iterable[str], passages: PassageStore) -> dict[str, list[Any]]:
    """Column -> values to search for, in the column's type."""
    wanted: dict[str, list[Any]] = {}
    for condition in conditions:
        column, equals, text = condition.partition("=")
        if not equals:
            raise ValueError(f"--where: expected COLUMN=VALUE, got {condition!r}")
        value = passages.parse(column, text)
        # An empty VALUE matches missing values and, as in CSV, also empty texts.
        is_text = value is None and str(passages.schema.field(column).type) == "string"
        wanted.setdefault(column, []).extend([None, ""] if is_text else [value])
    return wanted


def _record(question_id: str, text: str, found: Iterable[RetrievedPassage]) -> dict[str, Any]:
    return {
        "id": question_id,
        "question": text,
        "passages": [
            {**result.to_dict(), "fields": {name: _plain(value) for name, value in result.passage.fields.items()}}
            for result in found
        ],
    }


def _plain(value: object) -> object:
    """A value in JSON's types: dates and the like as text, NaN and infinity as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _show(question: str, found: Sequence[RetrievedPassage], *, full: bool) -> None:
    table = Table(title=Text(question), title_justify="left", show_edge=False, pad_edge=False, expand=False)
    table.add_column("score", justify="right", style="cyan", no_wrap=True)
    table.add_column("passage", style="bold", overflow="fold")
    table.add_column("text", ratio=1, overflow="fold")
    for result in found:
        passage = result.passage
        text = " ".join(passage.text.split())
        if not full and len(text) > SNIPPET:
            text = text[: SNIPPET - 1].rstrip() + "…"
        name = passage.title or passage.document
        label = Text(passage.id if name is None or name == passage.id else f"{passage.id}\n{name}")
        table.add_row(f"{result.score:.3f}", label, Text(text))
    if not found:
        table.add_row("", Text("no passage matches --where"), "")
    out.print(table)


def _open_run(path: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    if path is None:
        return nullcontext()
    from relkt.storage import atomic_file

    return atomic_file(path)


def _write_run(file: IO[bytes], question_id: str, found: Sequence[RetrievedPassage]) -> None:
    import numpy as np

    from relkt.evaluation.trec import run_lines

    scores = np.array([result.score for result in found], dtype=np.float32)
    file.write(run_lines(question_id, [result.passage.id for result in found], scores).encode())
