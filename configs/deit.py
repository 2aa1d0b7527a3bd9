"""DeiT: "Training Data-efficient Image Transformers & Distillation through Attention".

    python -m kdjax.main --config=configs/teacher.py:wrn_16_2,digits \\
        --workdir=runs/digits_teacher
    python -m kdjax.main --config=configs/deit.py:wrn_16_2-vit_4_64_distilled,digits \\
        --config.teacher.checkpoint=runs/digits_teacher --workdir=runs/deit

The argument is teacher-student; a data set may follow. The student is a vision
transformer with a distillation token, such as deit_tiny_distilled: its second
classifier learns the teacher's decisions, and half of the loss is the cross-entropy of
the first. AdamW and a cosine, as in `kdjax/recipes.py`. With

    --config.methods.deit.targets=soft --config.methods.deit.temperature=3 \\
        --config.methods.deit.weight=0.1 --config.task_weight=0.9

the second classifier learns the teacher's probabilities instead. Published top-1
accuracies on ImageNet, of 300 epochs, with hard targets of a RegNetY-16GF (82.9 %):
DeiT-Ti 72.2 % alone and 74.5 % with the token, DeiT-S 79.8 % and 81.2 %.

The commands above ended at 41.78, 48.31 and 44.92 % with seeds 0 to 2 and a teacher
each of 99.12, 99.25 and 99.00 %; the same student without a teacher at 40.28, 50.69 and
43.66 %, and vit_4_64, which has no distillation token, at 51.94, 51.69 and 40.28 %: no
gain, from 96 digits of four patches each.
"""

import ml_collections

from kdjax import method_recipes


def get_config(
    argument: str = "wrn_28_4-deit_tiny_distilled",
) -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return method_recipes.of_methods("deit", argument)
