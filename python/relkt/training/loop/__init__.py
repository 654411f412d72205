"""Runs a stage on the trainer of sentence-transformers."""
