"""Mining on torch tensors, in chunks on their device; results equal the Rust core's, bit for bit.

A chunk is a block of queries against a range of passages. One float32 product of unit rows gives approximate cosines,
within :func:`error_bound` of the scores. Comparisons that this bound leaves open (with the limits of a window, the
best candidates so far, or a maximum similarity) use the exact score, computed in float64 in the same order as in the
core. So the results do not depend on the device's order of summation.

Each module imports only from the modules before it: ``arguments``, ``products``, ``rows``, ``chunks``, ``block``
(queries and their excluded passages), ``windows`` (candidates inside limits), ``passes`` and ``passages``.
"""

from relkt.mining.torch_backend.passages import TorchPassages
from relkt.mining.torch_backend.products import error_bound

__all__ = ["TorchPassages", "error_bound"]
