"""relkt inside other libraries: a module for each, which needs that library installed.

- :mod:`relkt.integrations.semantic_search`: the call of ``sentence_transformers.util.semantic_search``.
- :mod:`relkt.integrations.sentence_transformers`: an evaluator for its trainer.
"""
