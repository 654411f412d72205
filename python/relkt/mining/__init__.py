"""Hard negatives, mined under conditions that all hold inside the exact search.

:func:`mine` works on arrays; ``relkt.mining.hard_negatives`` on data sets of texts, as sentence-transformers does.
"""

from relkt.mining.conditions import Strategy
from relkt.mining.negatives import MinedNegatives, Skipped, mine

__all__ = ["MinedNegatives", "Skipped", "Strategy", "mine"]
