"""Hard-negative mining, with all conditions applied inside the exact search.

:func:`mine` works on arrays; ``relkt.mining.hard_negatives`` on data sets of texts, like sentence-transformers.
"""

from relkt.mining.conditions import MiningConditions, Strategy
from relkt.mining.negatives import mine
from relkt.mining.results import MinedNegatives, Skipped

__all__ = ["MinedNegatives", "MiningConditions", "Skipped", "Strategy", "mine"]
