"""How a stage runs on the trainer of sentence-transformers."""
