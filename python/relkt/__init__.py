"""relkt: train cross-lingual retrievers by language knowledge transfer, and search with them exactly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relkt import formats
    from relkt._relkt import IndexFileError
    from relkt.data import load_data
    from relkt.encoders import load_encoder
    from relkt.encoders.onnx_export import export_onnx
    from relkt.evaluation import evaluate
    from relkt.index import Hits, Index, search
    from relkt.integrations.semantic_search import semantic_search
    from relkt.mining import mine
    from relkt.mining.hard_negatives import mine_hard_negatives
    from relkt.retrieval import Retriever
    from relkt.training import TrainConfig, train
    from relkt.training.remine import RemineCallback

__version__ = "0.1.0"

_EXPORTS = {
    "Hits": "relkt.index",
    "Index": "relkt.index",
    "IndexFileError": "relkt._relkt",
    "RemineCallback": "relkt.training.remine",
    "Retriever": "relkt.retrieval",
    "TrainConfig": "relkt.training",
    "evaluate": "relkt.evaluation",
    "export_onnx": "relkt.encoders.onnx_export",
    "load_data": "relkt.data",
    "load_encoder": "relkt.encoders",
    "mine": "relkt.mining",
    "mine_hard_negatives": "relkt.mining.hard_negatives",
    "search": "relkt.index",
    "semantic_search": "relkt.integrations.semantic_search",
    "train": "relkt.training",
}

__all__ = [
    "Hits",
    "Index",
    "IndexFileError",
    "RemineCallback",
    "Retriever",
    "TrainConfig",
    "__version__",
    "evaluate",
    "export_onnx",
    "formats",
    "load_data",
    "load_encoder",
    "mine",
    "mine_hard_negatives",
    "search",
    "semantic_search",
    "train",
]


def __getattr__(name: str) -> Any:
    # PEP 562: `import relkt` stays free of torch, and each name is loaded when it is first used.
    if name == "formats":
        return import_module("relkt.formats")
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'relkt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
