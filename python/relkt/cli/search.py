"""``relkt search``: its options, questions and output; :mod:`relkt.retrieval` does the work."""

from __future__ import annotations

import json as json_format
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import err, one_line_errors, out
from relkt.data.parsing import iter_lines, parse_object, string_field
from relkt.data.types import DataError

if TYPE_CHECKING:
    from relkt.retrieval import PassageStore, RetrievedPassage

STANDARD_INPUT = "-"
"""In place of a file: standard input."""
BLOCK = 64
"""Questions whose passages are in memory at once."""
SNIPPET = 240
"""Characters of a passage in the table, at most."""


def search(
    index: Annotated[Path, typer.Argument(help="An index file that `relkt index` wrote.")],
    questions: Annotated[
        list[str] | None, typer.Argument(help="Questions, in any language. Default: those of --file.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            help="A file of questions, one a line: plain text, or JSON lines with `text` and perhaps `_id` or `id`; "
            "- for standard input.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Passages for each question.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only passages with COLUMN=VALUE. May be repeated; of several values of a column any will do."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show whole passages.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write a JSON object for each question to standard output, one a line.")
    ] = False,
    run: Annotated[Path | None, typer.Option("--run", help="Write the ranking to this file in TREC format.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --run if it exists.")] = False,
    model: Annotated[
        str | None, typer.Option(help="The encoder, if it is elsewhere than when the index was built.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the search. Default: all.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: a GPU if there is one.")] = None,
) -> None:
    """Find the passages nearest to each question, exactly.

    Example: `relkt search wiki.relkt "ทำไมทะเลถึงมีน้ำขึ้นน้ำลง"`
    """
    with one_line_errors():
        check_outputs({"--run": run}, overwrite=overwrite)
        ids, texts = _questions(questions, file)
        if questions and len(questions) == 1 and os.path.isfile(questions[0]):  # noqa: PTH113 - of any text
            note = f"note: {questions[0]} is asked as a question; to ask those in the file, give --file"
            err.print(note, markup=False, highlight=False, soft_wrap=True)
        check_device(device)
        from relkt.retrieval import Retriever

        started = time.perf_counter()
        with _no_source(index):
            retriever = Retriever.open(index, encoder=model, device=device)
        wanted = _where(where or (), retriever.passages)
        opened = time.perf_counter()
        with err.status(f"loading the encoder {escape(model or retriever.encoder_name or '')}"):
            _ = retriever.encoder
        loaded = time.perf_counter()
        with err.status("encoding"):
            embeddings = retriever.encode(texts)
        encoded = time.perf_counter()
        searching = 0.0
        with _open_run(run) as ranks:
            for start in range(0, len(texts), BLOCK):
                began = time.perf_counter()
                block = slice(start, start + BLOCK)
                results = retriever.search_embeddings(embeddings[block], k, where=wanted, threads=threads)
                searching += time.perf_counter() - began
                for question_id, text, found in zip(ids[block], texts[block], results, strict=True):
                    if ranks is not None:
                        _write_run(ranks, question_id, found)
                    if json:
                        record = _record(question_id, text, found)
                        out.file.write(json_format.dumps(record, ensure_ascii=False) + "\n")
                    else:
                        _show(text, found, full=full)
        seconds = (opened - started) + searching
        note = (
            f"{len(texts)} question{'s' if len(texts) > 1 else ''}, {len(retriever)} passages: "
            f"{1000 * seconds:.0f} ms to open the index and search; before, {loaded - opened:.1f} s to load the "
            f"encoder and {1000 * (encoded - loaded):.0f} ms to encode"
        )
        err.print(note, style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _no_source(index: Path) -> Iterator[None]:
    """Says what to do with a file of passages that was taken for an index."""
    from relkt._relkt import IndexFileError
    from relkt.retrieval.sources import ENDINGS

    try:
        yield
    except IndexFileError as error:
        if index.suffix.lower() not in ENDINGS:
            raise
        raise ValueError(
            f"INDEX: expected an index file, got {index}; if it holds passages, make one: "
            f"relkt index {index} --output {index.with_suffix('.relkt')}"
        ) from error


def _questions(given: Sequence[str] | None, file: str | None) -> tuple[list[str], list[str]]:
    """Ids and texts of the questions."""
    if given and file:
        raise ValueError("QUESTIONS, --file: expected one of them, got both")
    if given:
        if blank := [number for number, text in enumerate(given, start=1) if not text.strip()]:
            raise ValueError(f"QUESTIONS: expected texts, got an empty one in place {blank[0]}")
        return [str(number) for number in range(1, len(given) + 1)], list(given)
    if file is None and sys.stdin.isatty():
        raise ValueError(
            "QUESTIONS: expected a question, or --file with a file of them, or questions on standard input"
        )
    name = file or STANDARD_INPUT
    lines = _input_lines() if name == STANDARD_INPUT else list(iter_lines(Path(name)))
    ids, texts = [], []
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if line.lstrip().startswith("{"):
            record = parse_object(Path(name), number, line)
            text = string_field(record, "text", where)
            question = record.get("_id", record.get("id", number))
            if isinstance(question, bool) or not isinstance(question, str | int):
                raise DataError(f"{where}: expected a text or an integer for the id, got {question!r}")
        else:
            text, question = line.strip(), number
        if not text.strip():
            raise DataError(f"{where}: expected a question, got an empty text")
        ids.append(str(question))
        texts.append(text)
    if not texts:
        place = "QUESTIONS, --file, standard input" if file is None else name
        raise DataError(f"{place}: expected at least one question, got none")
    if len(set(ids)) < len(ids):
        repeated = next(question for question in ids if ids.count(question) > 1)
        raise DataError(f"{name}: expected each id once, got {repeated!r} more than once")
    return ids, texts


def _input_lines() -> Iterable[tuple[int, str]]:
    try:
        # Lines as in a file: other ends of lines than these may be part of a text.
        return list(enumerate(sys.stdin.buffer.read().decode("utf-8-sig").split("\n"), start=1))
    except UnicodeDecodeError as error:
        raise DataError(f"standard input: expected UTF-8, got {error.reason} at byte {error.start}") from error


def _where(conditions: Iterable[str], passages: PassageStore) -> dict[str, list[Any]]:
    """The wanted values of each column, in the column's type."""
    wanted: dict[str, list[Any]] = {}
    for condition in conditions:
        column, equals, text = condition.partition("=")
        if not equals:
            raise ValueError(f"--where: expected COLUMN=VALUE, got {condition!r}")
        value = passages.parse(column, text)
        # Nothing at all, or, as from CSV, an empty text.
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
    """A value that JSON knows: dates and the like as their texts, and what is no number as null."""
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
        table.add_row("", Text("no passage fits --where"), "")
    out.print(table)


def _open_run(path: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    if path is None:
        return nullcontext()
    from relkt.storage import atomic_file

    return atomic_file(path)


def _write_run(file: IO[bytes], question_id: str, found: Sequence[RetrievedPassage]) -> None:
    import numpy as np

    from relkt.evaluation.ranking import run_lines

    scores = np.array([result.score for result in found], dtype=np.float32)
    file.write(run_lines(question_id, [result.passage.id for result in found], scores).encode())
