"""Linen modules that methods learn: connectors, embeddings, attention networks."""
