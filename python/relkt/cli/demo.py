"""What ``relkt demo`` does: train on relkt-mini, compare before and after, ask."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

from rich.markup import escape
from sentence_transformers import SentenceTransformer

from relkt.cli.console import err, out
from relkt.cli.tables import gains_table
from relkt.data import Level, Query, RetrievalData, Split, load_data
from relkt.encoders import encode_passages, encode_queries, load_encoder
from relkt.index import Index
from relkt.training import TrainConfig
from relkt.training.progress.bars import TrainingBars
from relkt.training.run import train

ASKED_LANGUAGES = ("es", "th", "ru")
"""Languages of the held-out questions that are asked at the end."""


def run_demo(output: Path, seed: int, own_questions: tuple[str, ...]) -> None:
    """Trains, compares and asks; everything is kept in a new folder at or beside ``output``."""
    start = time.monotonic()
    folder = _new_folder(output)
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
        f"Done in {time.monotonic() - start:.0f} s. In [bold]{escape(str(folder))}[/]: results.md, plots/, and model/, "
        "which SentenceTransformer loads.",
        highlight=False,
        soft_wrap=True,
    )


def _new_folder(output: Path) -> Path:
    """``output``, or the first of output-2, output-3 ... that does not exist."""
    if not output.exists():
        return output
    names = (output.with_name(f"{output.name}-{number}") for number in count(2))
    return next(path for path in names if not path.exists())


def _index(model: SentenceTransformer, data: RetrievalData) -> Index:
    return Index(encode_passages(model, data.candidates(Level.PASSAGE).texts))


def _ranks(index: Index, model: SentenceTransformer, data: RetrievalData, questions: list[Query]) -> list[int]:
    """For each question, the rank of the first passage that answers it."""
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
    """Asks held-out questions, whose passages' ranks before and after training are shown, then the user's own."""
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
            ranks = f"its passage has rank {after[number]}, before training {before[number]}"
            label = f"{question.language}, held out; in English: {escape(english)} {mark}: {ranks}"
        text_shown = escape(" ".join(passages.texts[row].split()))
        out.print(f"[bold]{escape(text)}[/]  [dim]({label})[/]", highlight=False)
        out.print(f"  {score:.3f}  {text_shown}\n", highlight=False)


def _held_out(data: RetrievalData) -> list[Query]:
    """A test question in each of three languages, each a different question: the first there are, not chosen for
    their answers."""
    chosen: list[Query] = []
    for language in ASKED_LANGUAGES:
        taken = {question.parallel for question in chosen}
        questions = data.select(split=Split.TEST, languages=[language]).queries
        chosen.append(next(question for question in questions if question.parallel not in taken))
    return chosen
