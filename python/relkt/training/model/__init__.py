"""Changes to the model while it trains: precision, token embeddings, weights."""
