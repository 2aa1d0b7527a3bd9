"""Experiments: each file has a `get_config` for `kdjax.main --config`."""
