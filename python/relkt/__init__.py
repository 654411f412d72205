"""relkt: train cross-lingual retrievers by language knowledge transfer, and search with them exactly."""

from typing import TYPE_CHECKING

from relkt._lazy import lazy_attach

if TYPE_CHECKING:
    from relkt import formats
    from relkt._relkt import IndexFileError
    from relkt.data import load_data
    from relkt.data.parallel import load_parallel
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
    "load_parallel",
    "mine",
    "mine_hard_negatives",
    "search",
    "semantic_search",
    "train",
]

__getattr__, __dir__ = lazy_attach(
    __name__,
    {
        "relkt._relkt": ["IndexFileError"],
        "relkt.data": ["load_data"],
        "relkt.data.parallel": ["load_parallel"],
        "relkt.encoders": ["load_encoder"],
        "relkt.encoders.onnx_export": ["export_onnx"],
        "relkt.evaluation": ["evaluate"],
        "relkt.index": ["Hits", "Index", "search"],
        "relkt.integrations.semantic_search": ["semantic_search"],
        "relkt.mining": ["mine"],
        "relkt.mining.hard_negatives": ["mine_hard_negatives"],
        "relkt.retrieval": ["Retriever"],
        "relkt.training": ["TrainConfig", "train"],
        "relkt.training.remine": ["RemineCallback"],
    },
    submodules=["formats"],
)
