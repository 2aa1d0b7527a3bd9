"""The keeping of a run: work directory, checkpoints, logs, signals and processes."""
