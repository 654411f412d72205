"""The Hugging Face Hub, for data sets that are not in a folder yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from relkt.data.types import DataError


def hub_rows(repository: str, config: str | None, split: str) -> Iterable[Mapping[str, Any]]:
    """The rows of one split of a data set on the Hub, downloaded once and then cached by ``datasets``.

    Args:
        repository: Data set repository, e.g. ``"google/xquad"``.
        config: Its configuration, e.g. ``"xquad.de"``; None if it has only one.
        split: The split's name on the Hub.

    Raises:
        DataError: If the Hub cannot be reached or has no such data set.
    """
    from datasets import load_dataset

    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(repository, config, split=split)
    # Offline, a wrong name and a damaged cache come as OSError (ConnectionError, FileNotFoundError) or ValueError.
    except (OSError, ValueError) as error:
        raise _unreachable(f"{repository} ({config or 'default'}, {split})", error) from error
    return rows


def hub_folder(repository: str, patterns: list[str]) -> Path:
    """A local copy of the files of a data set repository on the Hub.

    Args:
        repository: Data set repository, e.g. ``"me/my-passages"``.
        patterns: Which files are needed, as glob patterns.

    Raises:
        DataError: If the Hub cannot be reached or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(what: str, error: Exception) -> DataError:
    return DataError(
        f"path: not given, and {what} could not be loaded from the Hugging Face Hub ({error}); "
        "without a connection, pass path= with the folder that holds the files"
    )
