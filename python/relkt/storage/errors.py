"""Errors about folders that hold work, and places that cannot be written."""

from __future__ import annotations

from relkt.errors import ArgumentMessage


class FolderError(ValueError):
    """A folder cannot be used: it holds other work, files that relkt did not write, or a damaged manifest."""


class LockedError(FolderError):
    """Another process uses the folder, or a file that is not a lock stands in the lock's place."""


class NotWritableError(ArgumentMessage, OSError):
    """An argument names a place that cannot be written."""
