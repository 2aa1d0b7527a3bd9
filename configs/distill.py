"""A published method on a pair of networks.

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/distill.py:kd,resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/kd

The argument is METHOD,TEACHER-STUDENT[,DATA[,RECIPE]], for example
dkd,wrn_16_2-wrn_10_1,digits. The method is any that `python -m kdjax.distill` lists, by
its name or a short one (at, ab, ft, sp, cc, ofd, reviewkd, ...); several are joined as
in overhaul+kd, and each has its own hyperparameters, as in
`--config.methods.kd.weight=0.5`.

The settings are those that the method's published figure for the pair was obtained
with (`kdjax/method_recipes.py`), and those of most methods RepDistiller's, the usual
benchmark on CIFAR-100. The figures are in experiments/published.csv, and
docs/methods.md has them as a table. A RECIPE in the argument (ofd, mhgd, crd, review)
replaces that of the method, so that methods can be compared under one.
"""

import ml_collections

from kdjax import method_recipes


def get_config(
    argument: str = "kd,resnet32x4-resnet8x4",
) -> ml_collections.ConfigDict:
    """Returns the experiment for "method,teacher-student[,data[,recipe]]"."""
    methods, comma, networks = argument.partition(",")
    if not comma:
        raise ValueError(
            f"{argument!r} is not of the form method,teacher-student, as"
            " kd,resnet32x4-resnet8x4"
        )
    return method_recipes.of_methods(methods, networks)
