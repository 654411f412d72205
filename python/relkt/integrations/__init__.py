"""relkt in other libraries, one module per library.

- :mod:`relkt.integrations.semantic_search`: a replacement of ``sentence_transformers.util.semantic_search``.
- :mod:`relkt.integrations.sentence_transformers`: an evaluator for the trainer of sentence-transformers.
- :mod:`relkt.integrations.langchain`: a retriever for LangChain.
- :mod:`relkt.integrations.haystack`: a retriever for Haystack.
- :mod:`relkt.integrations.hub`: indexes and models on the Hugging Face Hub.
"""
