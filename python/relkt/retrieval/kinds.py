"""Enumerations of the package; importing them loads nothing."""

from __future__ import annotations

from enum import Enum


class Storage(str, Enum):
    """The number format of the rows of an index."""

    FLOAT32 = "float32"
    """The format of the encoder's output."""
    FLOAT16 = "float16"
    """Half the size: values are rounded to 11 significant bits, and the search is exact for the rounded values."""


class TextUnit(str, Enum):
    """The unit of a plain text file that becomes one passage."""

    LINE = "line"
    """Each line that is not blank."""
    PARAGRAPH = "paragraph"
    """Consecutive lines that are not blank, joined by spaces."""
