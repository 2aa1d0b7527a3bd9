"""OFD in a minute on a laptop: 96 of the 8x8 digits, no download.

    python -m kdjax.main --config=configs/teacher.py:wrn_16_2,digits \\
        --workdir=runs/digits_teacher
    python -m kdjax.main --config=configs/digits.py --workdir=runs/digits \\
        --config.teacher.checkpoint=runs/digits_teacher

The teacher sees all 1,000 training digits, the student 96 of them. The argument is
teacher-student. Figures over three seeds: the table in README.md, which `make demo`
makes anew.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "wrn_16_2-wrn_10_1") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student"."""
    return method_recipes.of_methods("overhaul", f"{argument},digits")
