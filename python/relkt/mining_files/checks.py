"""Checks of a run's paths and of its results."""

from __future__ import annotations

from pathlib import Path

from relkt.data.pair_files import input_files
from relkt.data.pairs import PairSet
from relkt.errors import ArgumentError, ArgumentMessage, Parameter
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.tables import MinedPairs, OutputFormat
from relkt.mining_files.work_folder import WorkFolder


class NoNegativesError(ArgumentMessage, RuntimeError):
    """A run found no negatives to write; its work is kept."""


def check_apart(pairs: Path, output: Path, corpus: Path | None = None) -> None:
    """Checks that the output and the work folder do not overlap the inputs, with links resolved.

    Args:
        pairs: The file of pairs, or a folder in the BEIR layout.
        output: The file to write.
        corpus: The file of additional passages.

    Raises:
        ValueError: If the output is one of the inputs, or an input is inside the work folder.
    """
    work = WorkFolder(output).path.resolve()
    for path in {**input_files(pairs, corpus), **({} if corpus is None else {"corpus": corpus})}.values():
        if path.resolve() == output.resolve() or (path.exists() and output.exists() and path.samefile(output)):
            raise ArgumentError("output", "a file other than the inputs", f"{output}, which is {path}")
        if work in path.resolve().parents:
            raise ArgumentError("output", f"a file whose work folder {work} holds no input", f"the input {path} in it")


def check_found(mined: MinedPairs, options: MiningOptions, kind: OutputFormat) -> None:
    """Checks that there are rows to write.

    Raises:
        NoNegativesError: If no query has a negative or, for n-tuple, no query has all its negatives.
    """
    wanted = options.conditions.num_negatives
    counts = (mined.negatives >= 0).sum(axis=1)
    found = int(counts.max())
    conditions = _conditions(mined.pairs, options)
    if found == 0:
        raise NoNegativesError(
            "pairs",
            problem=[
                f"no negatives found for any of the {len(counts):,} queries among the {len(mined.pairs.passages):,} "
                "passages under these conditions (",
                *(conditions or ["none"]),
                "); loosen them, or give a corpus with more passages. The embeddings are kept: the same inputs with ",
                *("other conditions and ", Parameter("overwrite", "True"), " reuse them"),
            ],
        )
    if kind is OutputFormat.N_TUPLE and found < wanted:
        raise NoNegativesError(
            "pairs",
            problem=[
                f"no rows: none of the {len(counts):,} queries has all {wanted} negatives, which ",
                *(Parameter("output_format", "n-tuple"), f" requires; the maximum is {found} under these conditions ("),
                *(conditions or ["none"]),
                *("). Give ", Parameter("output_format", "triplet"), ", or ", Parameter("overwrite", "True"), " with "),
                *(Parameter("num_negatives", str(found)), " or looser conditions: both reuse the finished work"),
            ],
        )


def _conditions(pairs: PairSet, options: MiningOptions) -> list[str | Parameter]:
    found: list[list[str | Parameter]] = [
        [Parameter(name, str(value))] for name, value in options.restrictions().items()
    ]
    if options.exclude_same_document and any(pairs.documents):
        found.append(["other passages of a positive's document excluded, see ", _INCLUDE_SAME_DOCUMENT])
    return [part for number, parts in enumerate(found) for part in (*(["; "] if number else []), *parts)]


_INCLUDE_SAME_DOCUMENT = Parameter("exclude_same_document", "False")
