"""PyTorch weights in and out."""

from kdjax import installation

installation.require_extra("export", needed_by=__name__)
