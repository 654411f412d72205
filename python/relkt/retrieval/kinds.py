"""Choices; importing them loads nothing."""

from __future__ import annotations

from enum import Enum


class Storage(str, Enum):
    """The number format of the rows of an index."""

    FLOAT32 = "float32"
    """As the encoder gives them."""
    FLOAT16 = "float16"
    """Half the size; values are rounded to 11 significant bits, and searched exactly as they are then."""


class TextUnit(str, Enum):
    """What is a passage in a plain text file."""

    LINE = "line"
    """Every line that is not blank."""
    PARAGRAPH = "paragraph"
    """Lines between blank ones, joined by spaces."""
