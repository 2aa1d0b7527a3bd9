"""MHGD on CIFAR-100: "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/mhgd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd

The argument is teacher-student; a data set may follow, as in wrn_10_2-wrn_10_1,digits.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    methods = {"mhgd": {"widths": "connect"}}
    return recipes.distillation(argument, methods, recipes.MHGD)
