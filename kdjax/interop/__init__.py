"""Import and export of PyTorch weights."""

from kdjax.cli import installation

installation.require_extra("export", needed_by=__name__)
