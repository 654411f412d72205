"""Data and small runs of mining, for the tests of ``relkt.mining_files`` and of ``relkt mine``."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import relkt
from relkt.encoders import encode_passages, encode_queries, load_encoder
from relkt.mining import MiningConditions
from relkt.mining_files import MiningOptions, mine_files, steps

TOPICS = ("tide", "moon", "bread", "glass", "train", "river", "stone", "cloud")


ROWS = [
    {
        "query": f"why {topic} {number} ?",
        "answer": f"{topic} has {TOPICS[(i + number) % 8]} number {number}",
        "document": f"about {topic}",
    }
    for i, topic in enumerate(TOPICS)
    for number in range(3)
]


FURTHER = [{"_id": f"c{i}", "text": f"{a} and {b} and more", "document": f"about {a}"} for i, (a, b) in
           enumerate(zip(TOPICS, TOPICS[3:] + TOPICS[:3], strict=True))]  # fmt: skip


def word_encoder(folder: Path, texts: list[str]) -> str:
    """A random vector for each word."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"]))
    torch.manual_seed(0)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu")
    model.save(str(folder))
    return str(folder)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected(encoder: str, rows=ROWS, further=(), documents=True, **conditions):
    """Queries, passages and the result of relkt.mine."""
    model = load_encoder(encoder)
    queries = list(dict.fromkeys(row["query"] for row in rows))
    document_of = {row["text"]: row["document"] for row in further} | {row["answer"]: row["document"] for row in rows}
    passages = list(dict.fromkeys([row["text"] for row in further] + [row["answer"] for row in rows]))
    positives = [[passages.index(row["answer"]) for row in rows if row["query"] == query] for query in queries]
    names = sorted(set(document_of.values()))
    groups = [names.index(document_of[text]) for text in passages] if documents else None
    return queries, passages, relkt.mine(
        encode_queries(model, queries), encode_passages(model, passages), positives, groups=groups, **conditions
    )  # fmt: skip


def mine_small(
    folder: Path,
    encoder: str,
    output: str = "out.parquet",
    kill_at: int | None = None,
    batch_size: int = 5,
    **conditions,
) -> object:
    """Mines with parts of a few texts; kills its process before file ``kill_at`` (from 0) gets its name."""
    steps.ENCODE_PART, steps.MINE_PART = 5, 10
    done = 0
    rename = Path.replace

    def count(self: Path, target: Path) -> Path:
        nonlocal done
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return rename(self, target)

    Path.replace = count
    try:
        return mine_files(
            folder / "pairs.jsonl",
            folder / output,
            encoder=encoder,
            options=MiningOptions(
                conditions=MiningConditions(**({"num_negatives": 2, "relative_margin": 0.1} | conditions)),
                batch_size=batch_size,
            ),
            threads=1,
            scores=True,
        )
    finally:
        Path.replace = rename


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """The folder of an encoder with a random vector for each word."""
    texts = [text for row in (*ROWS, *FURTHER) for text in row.values()]
    return word_encoder(tmp_path_factory.mktemp("encoder"), [*texts, "ask tell"])


@pytest.fixture
def small_parts(monkeypatch):
    """Restores the sizes of parts that :func:`mine_small` changes."""
    monkeypatch.setattr(steps, "ENCODE_PART", steps.ENCODE_PART)
    monkeypatch.setattr(steps, "MINE_PART", steps.MINE_PART)
