"""What ``relkt encode`` does."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.progress import progress_bar
from relkt.data import DataError
from relkt.data.parsing import iter_lines, parse_object, string_field

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
    check_outputs({"--output": output}, overwrite=overwrite)
    if batch_size < 1:
        raise ValueError(f"--batch-size: expected an integer of at least 1, got {batch_size}")
    lines = read_texts(texts, field)
    check_device(device)

    from relkt.encoders import encode_passages, encode_queries, load_encoder

    encoder = load_encoder(model, device=device)
    encode = encode_queries if queries else encode_passages
    # A folder of its own beside the output: the same file system, and no name that could be someone's.
    with TemporaryDirectory(prefix=".relkt-", dir=output.parent) as folder:
        partial = Path(folder) / output.name
        with progress_bar("encoding", len(lines)) as progress:
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
    return shape


def read_texts(path: Path, field: str) -> list[str]:
    """The texts of a file: of JSON lines if its first line is a JSON object, otherwise its lines.

    Raises:
        DataError: If the file is missing or not UTF-8, there is no text, a text is empty, or a JSON line has no text
            under ``field``; with the line.
    """
    lines = [(number, line.rstrip("\r\n")) for number, line in iter_lines(path)]
    if not lines:
        raise DataError(f"{path}: expected at least one line, got an empty file")
    is_json = lines[0][1].lstrip().startswith("{")
    texts = []
    for number, line in lines:
        where = f"{path}, line {number}"
        # Row i of the output belongs to line i, so no line may be skipped, not even a blank one.
        text = string_field(parse_object(path, number, line), field, where) if is_json and line.strip() else line
        if not text.strip():
            raise DataError(f"{where}: expected a text, got an empty one")
        texts.append(text)
    return texts
