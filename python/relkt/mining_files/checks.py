"""What is checked before a run starts, and what it must have found at its end."""

from __future__ import annotations

from pathlib import Path

from relkt.data.pair_files import input_files
from relkt.data.pairs import PairSet
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.tables import MinedPairs, OutputFormat
from relkt.mining_files.work_folder import WorkFolder


class NoNegativesError(RuntimeError):
    """A run that has found nothing to write; its work is kept."""


def check_apart(pairs: Path, output: Path, corpus: Path | None = None) -> None:
    """Checks that nothing that is read would be written, by whatever name.

    Args:
        pairs: The file of pairs, or a folder in the BEIR layout.
        output: The file to write.
        corpus: The file of further passages.

    Raises:
        ValueError: If the output is one of the inputs, or an input is inside the work folder.
    """
    work = WorkFolder(output).path.resolve()
    for path in {**input_files(pairs, corpus), **({} if corpus is None else {"corpus": corpus})}.values():
        if path.resolve() == output.resolve() or (path.exists() and output.exists() and path.samefile(output)):
            raise ValueError(f"output: expected another file than those that are read, got {output}, which is {path}")
        if work in path.resolve().parents:
            raise ValueError(f"output: expected a file whose work folder {work} holds no input, but {path} is in it")


def check_found(mined: MinedPairs, options: MiningOptions, kind: OutputFormat) -> None:
    """Checks that there is something to write.

    Raises:
        NoNegativesError: If no query has a negative, or in the format n-tuple none has all of them.
    """
    counts = (mined.negatives >= 0).sum(axis=1)
    most = int(counts.max())
    wanted = options.conditions.num_negatives
    conditions = "; ".join(_conditions(mined.pairs, options)) or "none but the passages that there are"
    queries = f"none of the {len(counts):,} queries"
    if most == 0:
        raise NoNegativesError(
            f"no negatives: {queries} has one among the {len(mined.pairs.passages):,} passages under these conditions "
            f"({conditions}); loosen them, or give a corpus with more passages. The embeddings are kept: the same "
            "inputs go on from them with other conditions and --overwrite"
        )
    if kind is OutputFormat.N_TUPLE and most < wanted:
        raise NoNegativesError(
            f"no rows: {queries} has all {wanted} negatives, which a row of output_format n-tuple "
            f"holds; the most is {most} under these conditions ({conditions}). Give output_format triplet, or, with "
            f"--overwrite, num_negatives {most} or looser conditions: both go on from what is done"
        )


def _conditions(pairs: PairSet, options: MiningOptions) -> list[str]:
    found = [f"{name} {value}" for name, value in options.restrictions().items()]
    if options.exclude_same_document and any(pairs.documents):
        found.append("no passages of a positive's document, see exclude_same_document")
    return found
