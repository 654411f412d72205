"""What ``relkt encode`` does."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np

from relkt.cli.console import counting
from relkt.data import DataError

CHUNK = 8192
"""Texts between two writes: sorting by length works within a chunk, and memory holds one."""


def run_encoding(
    texts: Path,
    output: Path,
    model: str,
    queries: bool,
    field: str,
    batch_size: int,
    device: str | None,
    *,
    overwrite: bool,
) -> tuple[int, int]:
    """Encodes a file of texts into ``output``, which appears only when it is complete; returns its shape."""
    if output.exists() and not overwrite:
        raise FileExistsError(f"--output: {output} exists; give --overwrite to replace it")
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected an integer of at least 1, got {batch_size}")
    lines = read_texts(texts, field)

    from relkt.encoders import encode_passages, encode_queries, load_encoder

    encoder = load_encoder(model, device=device)
    encode = encode_queries if queries else encode_passages
    partial = output.with_name(output.name + ".partial")
    try:
        with counting("encoding", len(lines)) as progress:
            rows = None
            remaining = iter(lines)
            done = 0
            while chunk := list(islice(remaining, CHUNK)):
                embeddings = encode(encoder, chunk, batch_size=batch_size, progress=progress)
                if rows is None:
                    shape = (len(lines), embeddings.shape[1])
                    rows = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
                rows[done : done + len(chunk)] = embeddings
                done += len(chunk)
        assert rows is not None  # there is at least one text
        rows.flush()
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return shape


def read_texts(path: Path, field: str) -> list[str]:
    """The texts of a file: of JSON lines if its first line is a JSON object, otherwise its lines.

    Raises:
        DataError: If there is no text, a text is empty, or a JSON line has no text under ``field``; with the line.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [line.rstrip("\r\n") for line in lines]
    if not rows:
        raise DataError(f"{path}: expected at least one line, got an empty file")
    is_json = rows[0].lstrip().startswith("{")
    texts = [_json_text(path, number, row, field) if is_json else row for number, row in enumerate(rows, 1)]
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"{path}: line {number}: expected a text, got an empty one")
    return texts


def _json_text(path: Path, number: int, row: str, field: str) -> str:
    try:
        record = json.loads(row)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number}: not JSON: {error}") from error
    text = record.get(field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise DataError(f"{path}: line {number}: expected an object with a text under {field!r}, got {row[:80]!r}")
    return text
