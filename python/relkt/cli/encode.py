"""``relkt encode``: its options, its input, and a file written chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from relkt.cli.checks import check_device, check_outputs
from relkt.cli.console import one_line_errors, print_note
from relkt.cli.options import BatchSizeOption, DeviceOption, ModelOption
from relkt.cli.progress import progress_bar
from relkt.data import DataError
from relkt.data.parsing import iter_lines, parse_object, string_field
from relkt.storage import atomic_file

CHUNK = 8192
"""Number of texts encoded and written together. Each such chunk is sorted by length; memory holds one chunk."""


class TextKind(str, Enum):
    """The kind of a text, which selects its prompt."""

    QUERY = "query"
    PASSAGE = "passage"


def encode(
    texts: Annotated[Path, typer.Argument(help="JSON lines, or plain text with one text per line.")],
    output: Annotated[
        Path, typer.Option(help="The .npy file to write: float32, one unit-length row per line, in order.")
    ],
    model: ModelOption = "muse",
    kind: Annotated[TextKind, typer.Option(help="Kind of the texts, which selects the prompt.")] = TextKind.PASSAGE,
    field: Annotated[str, typer.Option(help="Field that holds the text, in JSON lines.")] = "text",
    batch_size: BatchSizeOption = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    device: DeviceOption = None,
) -> None:
    """Embed texts into a NumPy file, for `relkt.search` or any other program.

    Example: `relkt encode corpus.jsonl --output corpus.npy`
    """
    with one_line_errors():
        check_outputs({"--output": output}, overwrite=overwrite)
        lines = read_texts(texts, field)
        check_device(device)
        rows, dim = _encode(lines, output, model, kind, batch_size, device)
        print_note(f"wrote {output}: {rows} rows of {dim} float32 values")


def read_texts(path: Path, field: str) -> list[str]:
    """The texts of a file: JSON lines if its first line begins with ``{``, otherwise plain lines.

    Raises:
        DataError: If the file is missing, empty or not UTF-8, or a line has an empty text or lacks ``field``; the
            message names the line.
    """
    lines = [(number, line.rstrip("\r\n")) for number, line in iter_lines(path)]
    if not lines:
        raise DataError(f"{path}: expected at least one line, got an empty file")
    is_json = lines[0][1].lstrip().startswith("{")
    texts = []
    for number, line in lines:
        where = f"{path}, line {number}"
        # Row i of the output belongs to line i, so a blank line cannot be skipped: it is an error.
        text = string_field(parse_object(path, number, line), field, where) if is_json and line.strip() else line
        if not text.strip():
            raise DataError(f"{where}: expected a text, got an empty one")
        texts.append(text)
    return texts


def _encode(
    texts: Sequence[str], output: Path, model: str, kind: TextKind, batch_size: int, device: str | None
) -> tuple[int, int]:
    """Encodes texts into ``output``, which appears only when it is complete; returns its shape."""
    import numpy as np

    from relkt.encoders import encode_passages, encode_queries, load_encoder

    encoder = load_encoder(model, device=device)
    embed = encode_queries if kind is TextKind.QUERY else encode_passages
    with progress_bar("encoding", len(texts), rate="texts") as bar, atomic_file(output) as file:
        shape = None
        for start in range(0, len(texts), CHUNK):
            rows = embed(encoder, texts[start : start + CHUNK], batch_size=batch_size, progress=bar)
            if shape is None:
                shape = (len(texts), rows.shape[1])
                header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(rows.astype(np.float32, copy=False).tobytes())
    assert shape is not None  # there is at least one text
    return shape
