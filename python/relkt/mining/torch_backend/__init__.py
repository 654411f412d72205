"""Mining on torch tensors, in chunks on their device: the results of the Rust core, bit for bit.

A chunk is a block of queries against a stretch of passages. Its cosines are first computed in float32, as one product
of unit rows; :func:`error_bound` says how far they may be from the scores. What that distance leaves open, be it
whether a score lies in a window, beats the best so far or is above a limit, is decided by the score itself, computed in
double precision as the core computes it. So nothing depends on how the device adds up, and every result is certain.

Each module imports only from those above it: ``arguments``, ``products``, ``rows``, ``chunks``, ``block`` (queries, and
what is no candidate for them), ``windows`` (the candidates inside limits), ``passes`` and ``passages``.
"""

from relkt.mining.torch_backend.passages import TorchPassages
from relkt.mining.torch_backend.products import error_bound

__all__ = ["TorchPassages", "error_bound"]
