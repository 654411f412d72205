"""Errors about folders that hold work."""

from __future__ import annotations


class FolderError(ValueError):
    """A folder cannot be used: it holds other work, files that relkt did not write, or a damaged manifest."""


class LockedError(FolderError):
    """Another process uses the folder, or a file that is not a lock stands in the lock's place."""
