"""A run of mining: read, embed part by part, mine part by part, write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from relkt.data.pair_files import CorpusColumns, PairColumns, input_files, read_pair_files
from relkt.data.types import Split
from relkt.mining_files.checks import check_apart, check_found
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.steps import Stages, Steps
from relkt.mining_files.summary import MiningSummary
from relkt.mining_files.tables import SUFFIXES, OutputFormat, write_table
from relkt.mining_files.work_folder import WorkFolder
from relkt.storage import locked


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

    Work is kept in ``OUTPUT.work`` beside the output: embeddings in parts of 1,024 texts (or ``batch_size``, if that
    is more), then negatives in parts of 16,384 queries. A run that was killed or interrupted, at whatever moment, goes
    on there when it is called again, without the part it was at, and its output is the same byte for byte (with the
    same versions of the libraries and number of threads). The output appears once it is complete, and the folder goes.
    ``OUTPUT.work.lock`` sees to it that only one run uses the folder. Where the output is a symbolic link, the file it
    leads to is replaced, and the work is beside that; ``OUTPUT.work`` may be a link to a folder elsewhere.

    Args:
        pairs: See :func:`~relkt.data.pair_files.read_pair_files`, as for the next four.
        output: ``.parquet`` or ``.jsonl``. The caller has seen to it that it may be replaced if it exists; it
            must be none of the inputs.
        corpus: Further passages.
        columns: Names of the columns of ``pairs``.
        corpus_columns: Names of the columns of ``corpus``.
        split: Part of a folder in the BEIR layout.
        encoder: "muse", or a model's folder or name on the Hub.
        device: Where to embed; default: a GPU if there is one.
        options: How to mine.
        output_format: What a row is.
        scores: Whether rows have scores.
        ids: Whether rows have ids, where the input has, in further columns, which sentence-transformers would train on
            as texts.
        threads: Threads of embedding and mining; default: all that the process may use.
        overwrite: Whether to delete the work of a run with other inputs or options; what fits, as embeddings do where
            only conditions are others, is gone on with.
        stages: Told what is done; default: nobody.

    Raises:
        ValueError: If an option is out of its range or the output is an input (before any file is read or written).
        DataError: If the input cannot be used; see :func:`~relkt.data.pair_files.read_pair_files`.
        WorkFolderError: If the work folder belongs to a run with other inputs or options, or another run is using it,
            or a file in the way is not of a run.
        NoNegativesError: If no query has a negative, or in the format n-tuple none has all of them; nothing is written.
        OSError: If the encoder cannot be loaded or a file cannot be written.
    """
    options = options or MiningOptions()
    stages = stages or (lambda *_: nullcontext(lambda _: None))
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"output: expected a file that ends in {' or '.join(SUFFIXES)}, got {output}")
    check_apart(pairs, output, corpus)
    work = WorkFolder(output)
    if work.output.parent.is_dir() and not os.access(work.output.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"output: expected a writable place, got {output} in {work.output.parent}")
    with locked(work.path), _torch_threads(threads):
        found = read_pair_files(pairs, corpus, columns=columns, corpus_columns=corpus_columns, split=split)
        if output_format is OutputFormat.N_TUPLE and options.conditions.num_negatives >= len(found.passages):
            raise ValueError(
                f"num_negatives: expected fewer than the {len(found.passages)} passages with output_format n-tuple, "
                f"whose rows have all of them, got {options.conditions.num_negatives}"
            )
        manifest = {
            "inputs": {name: _checksum_of(path) for name, path in input_files(pairs, corpus).items()},
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
        with work.writing_output() as path:
            rows = write_table(
                path,
                mined,
                output_format,
                scores=scores,
                ids=ids,
                parquet=output.suffix.lower() == ".parquet",
            )
        del index, steps
        work.remove()
    return MiningSummary.of(mined, skipped, output_format, rows=rows, resumed=resumed)


def _checksum_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
