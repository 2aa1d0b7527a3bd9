"""Data sets, and batches of them on the device."""

from kdjax import installation

installation.require_extra("data", needed_by=__name__)
