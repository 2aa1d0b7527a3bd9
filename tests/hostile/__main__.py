"""Prints what kdjax answers to hostile values of every field and damages to every file.

python -m tests.hostile
"""

from tests.hostile import files, overrides

overrides.main()
files.main()
