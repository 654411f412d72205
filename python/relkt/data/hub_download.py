"""Downloads of data sets from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from relkt.data.types import DataArgumentError, DataError
from relkt.errors import Parameter


def hub_rows(repository: str, config: str | None, split: str) -> Iterable[Mapping[str, Any]]:
    """Downloads the rows of one split of a data set; ``datasets`` caches them.

    Args:
        repository: Data set repository, e.g. ``"google/xquad"``.
        config: Configuration, e.g. ``"xquad.de"``; None for the only configuration.
        split: Name of the split on the Hub.

    Raises:
        DataError: If the Hub cannot be reached or has no such data set.
    """
    from datasets import load_dataset

    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(repository, config, split=split)
    # No connection, a wrong name and a damaged cache raise OSError (ConnectionError, FileNotFoundError) or ValueError.
    except (OSError, ValueError) as error:
        raise _unreachable(f"{repository} ({config or 'default'}, {split})", error) from error
    return rows


def hub_folder(repository: str, patterns: list[str]) -> Path:
    """Downloads files of a data set repository into the Hub's cache, and returns their folder.

    Args:
        repository: Data set repository, e.g. ``"me/my-passages"``.
        patterns: Glob patterns of the files.

    Raises:
        DataError: If the Hub cannot be reached or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(what: str, error: Exception) -> DataError:
    return DataArgumentError(
        "path",
        problem=f"not given, and {what} could not be loaded from the Hugging Face Hub ({error})",
        hint=["without a connection, set ", Parameter("path"), " to the folder with the files"],
    )
