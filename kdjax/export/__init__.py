"""Export of trained networks to programs that run without kdjax."""

from kdjax.cli import installation

installation.require_extra("export", needed_by=__name__)
