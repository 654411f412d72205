"""``relkt demo``: trains on relkt-mini, compares before and after, and asks questions."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from relkt.cli.console import err, one_line_errors, out
from relkt.data import Level, Query, RetrievalData, Split, load_data

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from relkt.index import Index

ASKED_LANGUAGES = ("es", "th", "ru")
"""Languages of the held-out questions that are asked at the end."""


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for the run. If it exists, a number is added to the name.")
    ] = Path("relkt-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the training run.")] = 42,
    ask: Annotated[list[str] | None, typer.Option(help="Your own question, in any language. May be repeated.")] = None,
) -> None:
    """Train a retriever, measure the gain, and ask it questions: offline, in about two minutes.

    Runs the three training stages on **relkt-mini**, a small parallel data set that comes with relkt, starting from the
    multilingual universal sentence encoder. P@1 is measured on held-out questions.

    Example: `relkt demo --ask "¿Por qué flota el hielo?"`
    """
    with one_line_errors():
        if any(not question.strip() for question in ask or ()):
            raise ValueError("--ask: expected a question, got an empty text")
        _run(_new_folder(output), seed, tuple(ask or ()))


def _run(folder: Path, seed: int, own_questions: tuple[str, ...]) -> None:
    from relkt.cli.tables import gains_table
    from relkt.encoders import load_encoder
    from relkt.training import TrainConfig
    from relkt.training.progress.bars import TrainingBars
    from relkt.training.run import train

    start = time.monotonic()
    data = load_data("relkt-mini")
    held_out = _held_out(data)
    config = TrainConfig.from_dict({**TrainConfig.preset("demo").to_dict(), "seed": seed})
    languages = len(data.languages)
    err.print(
        f"Training on [bold]relkt-mini[/]: {len(data.passages)} English passages, "
        f"{len(data.queries) // languages} questions, each in {languages} languages.",
        highlight=False,
    )
    with TrainingBars.bars(err) as bars:
        progress = TrainingBars(bars)
        progress.activity("loading the encoder")
        model = load_encoder("muse", device="cpu")
        before = _ranks(_index(model, data), model, data, held_out)
        train(model, data, output_dir=folder, config=config, progress=progress)
    out.print(gains_table(folder / "results.json", Level.PASSAGE), "")
    _ask(model, data, held_out, before, own_questions)
    err.print(
        f"Done in {time.monotonic() - start:.0f} s. [bold]{escape(str(folder))}[/] contains results.md, plots/ and "
        "model/ (load it with relkt.load_encoder).",
        highlight=False,
        soft_wrap=True,
    )


def _new_folder(output: Path) -> Path:
    """``output``, or the first of output-2, output-3 ... that does not exist."""
    if not output.exists():
        return output
    names = (output.with_name(f"{output.name}-{number}") for number in count(2))
    return next(path for path in names if not path.exists())


def _held_out(data: RetrievalData) -> list[Query]:
    """For each of three languages, the first test question that is not a translation of one already chosen.

    The choice does not depend on how the model answers.
    """
    chosen: list[Query] = []
    for language in ASKED_LANGUAGES:
        taken = {question.parallel for question in chosen}
        questions = data.select(split=Split.TEST, languages=[language]).queries
        chosen.append(next(question for question in questions if question.parallel not in taken))
    return chosen


def _index(model: SentenceTransformer, data: RetrievalData) -> Index:
    from relkt.encoders import encode_passages
    from relkt.index import Index

    return Index(encode_passages(model, data.candidates(Level.PASSAGE).texts))


def _ranks(index: Index, model: SentenceTransformer, data: RetrievalData, questions: list[Query]) -> list[int]:
    """For each question, the rank of the first passage that answers it."""
    from relkt.encoders import encode_queries

    ids = data.candidates(Level.PASSAGE).ids
    hits = index.search(encode_queries(model, [question.text for question in questions]), k=len(index))
    return [
        next(rank for rank, row in enumerate(rows, start=1) if ids[row] in data.positives(question.id))
        for question, rows in zip(questions, hits.indices.tolist(), strict=True)
    ]


def _ask(
    model: SentenceTransformer,
    data: RetrievalData,
    held_out: list[Query],
    before: list[int],
    own_questions: tuple[str, ...],
) -> None:
    """Prints the best passage of each question; for held-out questions also the ranks before and after training."""
    from relkt.encoders import encode_queries

    passages = data.candidates(Level.PASSAGE)
    index = _index(model, data)
    after = _ranks(index, model, data, held_out)
    texts = [*(question.text for question in held_out), *own_questions]
    hits = index.search(encode_queries(model, texts), k=1)
    for number, text in enumerate(texts):
        row, score = int(hits.indices[number, 0]), float(hits.scores[number, 0])
        label = "your question"
        if number < len(held_out):
            question = held_out[number]
            english = next(q.text for q in data.queries if q.parallel == question.parallel and q.language == "en")
            mark = "[green]right[/]" if after[number] == 1 else "[red]wrong[/]"
            ranks = f"its passage ranks {after[number]}; before training, {before[number]}"
            label = f"{question.language}, held out; in English: {escape(english)} {mark}: {ranks}"
        out.print(f"[bold]{escape(text)}[/]  [dim]({label})[/]", highlight=False)
        out.print(f"  {score:.3f}  {escape(' '.join(passages.texts[row].split()))}\n", highlight=False)
