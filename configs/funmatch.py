"""FunMatch: Beyer et al., "Knowledge Distillation: A Good Teacher Is Patient and
Consistent" (CVPR 2022).

    python -m kdjax.main --config=configs/funmatch.py:wrn_40_2-wrn_16_2 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/funmatch

A recipe of known parts. The teacher is consistent: both networks see the same crop, as
always in kdjax, mixed with another image by a share that is uniform in [0, 1]. It is
patient: 1,200 epochs with one cosine. The loss is the KL divergence at temperature 1,
and no label is read. Published for ResNet-50 on ImageNet, from BiT-M R152x2, after
9,600 epochs: 82.8 %. Original: google-research/big_vision, `configs/proj/distill`,
`bit_i1k.py` and, for data other than ImageNet, `bigsweep_flowers_pet.py`.

Differs from the original in: the networks; decay is by the learning rate, the quotient
of theirs, as AdamW has it; crops of other data than ImageNet are those of its recipe.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "wrn_40_2-wrn_16_2") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    config = method_recipes.of_methods("kd", argument)
    config.task_weight = 0.0
    config.methods.kd.weight, config.methods.kd.temperature = 1.0, 1.0
    config.teacher.batch_norm = "running"
    config.data.mixup = 1.0
    config.epochs = 1200
    optimizer = config.optimizer
    optimizer.name, optimizer.schedule = "adamw", "cosine"
    optimizer.clip_norm, optimizer.weight_decay_of = 1.0, "kernels"
    optimizer.learning_rate, optimizer.weight_decay = 3e-3, 0.1
    optimizer.warm_up_epochs = 15.0
    if config.data.name == "imagenet":
        config.batch_size = 4096
        optimizer.learning_rate, optimizer.weight_decay = 0.03, 0.01
    return config
