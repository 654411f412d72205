"""Reproducible experiments: several systems are trained with several seeds, measured and compared.

Nothing heavy is imported until :func:`reproduce` is called.
"""

from relkt.reproduce.progress import Progress
from relkt.reproduce.reproduction import Cell, Comparison, Mean, Reproduction
from relkt.reproduce.rows import XQUAD_ROWS, XQUAD_TRAINED, Row, Run, xquad_rows
from relkt.reproduce.run import reproduce

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
