"""Trained networks as programs that run without kdjax."""
