"""Experiments that anyone can repeat: several systems, trained with several seeds, measured and compared.

Nothing heavy is imported until :func:`reproduce` is used.
"""

from relkt.reproduce.progress import Progress
from relkt.reproduce.rows import XQUAD_ROWS, XQUAD_TRAINED, Row, Run, xquad_rows
from relkt.reproduce.run import reproduce
from relkt.reproduce.summary import Cell, Comparison, Mean, Reproduction

__all__ = [
    "XQUAD_ROWS",
    "XQUAD_TRAINED",
    "Cell",
    "Comparison",
    "Mean",
    "Progress",
    "Reproduction",
    "Row",
    "Run",
    "reproduce",
    "xquad_rows",
]
