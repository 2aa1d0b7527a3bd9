"""Linen modules that methods learn: connectors, regressors, embeddings and others."""
