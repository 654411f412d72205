"""New negatives between the epochs of a sentence-transformers training."""

from relkt.training.remine.callback import RemineCallback
from relkt.training.remine.checkpoint import CHECKPOINT_FILE
from relkt.training.remine.mining import Remined
from relkt.training.remine.pairs import WithoutNegatives

__all__ = ["CHECKPOINT_FILE", "RemineCallback", "Remined", "WithoutNegatives"]
