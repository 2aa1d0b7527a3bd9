"""Data sets, input pipelines and augmentation."""

from kdjax.cli import installation

installation.require_extra("data", needed_by=__name__)
