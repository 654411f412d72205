"""A mining run: reads the pairs, embeds and mines in parts, writes the output."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from relkt.data.pair_files import CorpusColumns, PairColumns, input_files, read_pair_files
from relkt.data.types import Split
from relkt.errors import ArgumentError, Parameter
from relkt.mining_files.checks import check_apart, check_found
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.steps import Stages, Steps
from relkt.mining_files.summary import MiningSummary
from relkt.mining_files.tables import SUFFIXES, OutputFormat, write_table
from relkt.mining_files.work_folder import WorkFolder
from relkt.storage import NotWritableError, locked, sha256_file


def mine_files(
    pairs: Path,
    output: Path,
    *,
    corpus: Path | None = None,
    columns: PairColumns | None = None,
    corpus_columns: CorpusColumns | None = None,
    split: Split | None = None,
    encoder: str = "muse",
    device: str | None = None,
    options: MiningOptions | None = None,
    output_format: OutputFormat = OutputFormat.TRIPLET,
    scores: bool = False,
    ids: bool = False,
    threads: int | None = None,
    overwrite: bool = False,
    stages: Stages | None = None,
) -> MiningSummary:
    """Mines negatives for the pairs of a file.

    The run keeps its finished work in the folder ``OUTPUT.work`` next to the output: embeddings in parts of 1,024 texts
    (or of ``batch_size`` texts, if that is larger), then negatives in parts of 16,384 queries. After a kill or an
    interruption, the same call resumes with the unfinished part. It writes the same output, byte for byte, if the
    versions of the libraries and the number of threads are the same. The output appears once it is complete; then the
    folder is deleted. ``OUTPUT.work.lock`` lets only one run at a time use the folder. If the output is a symbolic
    link, its target is replaced, and the folder is next to the target. ``OUTPUT.work`` itself may be a link to another
    folder.

    Args:
        pairs: The pairs, see :func:`~relkt.data.pair_files.read_pair_files`.
        output: The ``.parquet`` or ``.jsonl`` file to write. An existing file is replaced; it must not be an input.
        corpus: Additional passages.
        columns: Names of the columns of ``pairs``.
        corpus_columns: Names of the columns of ``corpus``.
        split: Part of a folder in the BEIR layout.
        encoder: "muse", or a model's folder or name on the Hub.
        device: Device of the encoder. Default: a GPU if available.
        options: Conditions and settings.
        output_format: Format of the rows.
        scores: Add scores to the rows.
        ids: Add ids to the rows, if the inputs have ids. But sentence-transformers would train on these columns as
            if they were texts.
        threads: Number of threads of embedding and mining. Default: all that the process may use.
        overwrite: Delete the kept work of a run with other inputs or options. If only conditions differ, its embeddings
            are kept.
        stages: Opens a progress display for each stage. Default: none.

    Raises:
        ValueError: If an option is out of range or the output is an input (before any file is read or written).
        DataError: If the input cannot be used; see :func:`~relkt.data.pair_files.read_pair_files`.
        FolderError: If the work folder holds other work or files that relkt did not write, or another run uses it.
        NoNegativesError: If no query has a negative or, for n-tuple, no query has all its negatives; no output is
            written.
        OSError: If the encoder cannot be loaded or a file cannot be written.
    """
    options = options or MiningOptions()
    stages = stages or (lambda *_: nullcontext(lambda _: None))
    if output.suffix.lower() not in SUFFIXES:
        raise ArgumentError("output", f"a file that ends in {' or '.join(SUFFIXES)}", output)
    check_apart(pairs, output, corpus)
    work = WorkFolder(output)
    if work.output.parent.is_dir() and not os.access(work.output.parent, os.W_OK | os.X_OK):
        raise NotWritableError("output", "a writable place", f"{output} in {work.output.parent}")
    with locked(work.path), _torch_threads(threads):
        found = read_pair_files(pairs, corpus, columns=columns, corpus_columns=corpus_columns, split=split)
        _check_tuples(options, output_format, len(found.passages))
        manifest = {
            "inputs": {name: sha256_file(path) for name, path in input_files(pairs, corpus).items()},
            "columns": asdict(columns or PairColumns()),
            "corpus_columns": asdict(corpus_columns or CorpusColumns()),
            "split": None if split is None else split.value,
            **options.manifest(),
        }
        from relkt.encoders import load_encoder, model_checksum

        steps = Steps(work, found, options, threads, stages)
        model = load_encoder(encoder, device=device)
        resumed = work.open(manifest | {"weights": model_checksum(model)}, overwrite=overwrite)
        index = steps.embed_passages(model)
        steps.embed_queries(model)
        mined, skipped = steps.mine(index)
        check_found(mined, options, output_format)
        with work.writing_output() as file:
            parquet = output.suffix.lower() == ".parquet"
            rows = write_table(file, mined, output_format, scores=scores, ids=ids, parquet=parquet)
        del index, steps
        work.remove()
    return MiningSummary.of(mined, skipped, output_format, rows=rows, resumed=resumed)


def _check_tuples(options: MiningOptions, output_format: OutputFormat, passages: int) -> None:
    num_negatives = options.conditions.num_negatives
    if output_format is OutputFormat.N_TUPLE and num_negatives >= passages:
        expected: list[str | Parameter] = [
            f"fewer than the {passages} passages with ",
            Parameter("output_format", "n-tuple"),
            ", whose rows have all negatives",
        ]
        raise ArgumentError("num_negatives", expected, num_negatives)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
