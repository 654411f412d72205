"""relkt inside other libraries: a module for each, which needs that library installed.

- :mod:`relkt.integrations.semantic_search`: the call of ``sentence_transformers.util.semantic_search``.
- :mod:`relkt.integrations.sentence_transformers`: an evaluator for its trainer.
- :mod:`relkt.integrations.langchain`: a retriever for LangChain.
- :mod:`relkt.integrations.haystack`: a retriever for Haystack.
- :mod:`relkt.integrations.hub`: indexes and models on the Hugging Face Hub.
"""
