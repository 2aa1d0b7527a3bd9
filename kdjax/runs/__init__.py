"""Bookkeeping of a run: work directory, checkpoints, logs, signals, processes."""

from kdjax.cli import installation

installation.require_extra("train", needed_by=__name__)
