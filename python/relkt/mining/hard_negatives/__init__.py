"""Hard negatives for a data set of pairs, with the signature of ``sentence_transformers.util.mine_hard_negatives``."""

from relkt.mining.hard_negatives.mine import mine_hard_negatives

__all__ = ["mine_hard_negatives"]
