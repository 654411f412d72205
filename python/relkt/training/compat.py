"""Names that sentence-transformers 6 has in another place than 5."""

try:
    from sentence_transformers.base.evaluation import SentenceEvaluator
    from sentence_transformers.base.modules import Router
except ImportError:
    from sentence_transformers.evaluation import SentenceEvaluator  # type: ignore[import-not-found,no-redef]
    from sentence_transformers.models import Router  # type: ignore[import-not-found,no-redef]

__all__ = ["Router", "SentenceEvaluator"]
