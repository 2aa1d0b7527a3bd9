"""Settings of each method that its published figures were obtained with.

`of_methods` makes a configuration out of them; `experiments/published.csv` holds the
figures and where they come from.
"""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from kdjax import distill, recipes

Fields = Mapping[str, Any]
_NONE: Mapping[str, Any] = types.MappingProxyType({})


class MethodRecipe(NamedTuple):
    """What a method's original code sets apart from the defaults.

    Fields are given as "optimizer.momentum" and values of later groups replace those of
    earlier ones. "{teacher}" stands for the name of the teacher network.

    Attributes:
      recipe: one of `recipes.RECIPES`.
      fields: for every pair and data set.
      by_data: by the name of the data set.
      by_pair: by "teacher-student".
    """

    recipe: str = "crd"
    fields: Fields = _NONE
    by_data: Mapping[str, Fields] = _NONE
    by_pair: Mapping[str, Fields] = _NONE

    def settings(self, networks: recipes.Networks) -> dict[str, Any]:
        """Returns the fields that a pair and a data set ask for."""
        pair = f"{networks.teacher}-{networks.student}"
        groups = (
            self.fields,
            self.by_data.get(networks.data, {}),
            self.by_pair.get(pair, {}),
        )
        return {
            name: networks.teacher if value == "{teacher}" else value
            for group in groups
            for name, value in group.items()
        }


#: By the name of the method; one that is not here has the defaults.
METHOD_RECIPES: Mapping[str, MethodRecipe] = {
    "activation_boundary": MethodRecipe(fields={"distill_first.epochs": 30}),
    # Published weights are for images of CIFAR's size, whose last maps have at least
    # 8x8 positions. Both losses are means over the positions of maps of unit length,
    # which grow where there are fewer: weights are scaled by the area of the maps, a
    # sixteenth on the digits. The mean of absolute values grows by less, 4 times, but a
    # quarter of the weight still costs the student 8 points. Networks for 64x64 images
    # halve them at once and have maps as large as CIFAR's.
    "attention_transfer": MethodRecipe(
        by_data={"digits": {"methods.attention_transfer.weight": 1000 / 16}}
    ),
    "factor_transfer": MethodRecipe(
        by_data={"digits": {"methods.factor_transfer.weight": 200 / 16}}
    ),
    # GzyAftermath/CAT-KD, `configs/cifar100/CAT_KD/*.yaml`. On the digits the default
    # diverges.
    "cat_kd": MethodRecipe(
        by_data={"digits": {"methods.cat_kd.weight": 1.5}},
        by_pair={
            pair: {
                "methods.cat_kd.weight": weight,
                "methods.cat_kd.resolution": resolution,
                "methods.cat_kd.normalize": normalize,
            }
            for pair, weight, resolution, normalize in (
                ("resnet110-resnet32", 1.8, 2, False),
                ("resnet56-resnet20", 0.7, 2, False),
                ("wrn_40_2-wrn_16_2", 12.0, 2, False),
                ("wrn_40_2-wrn_40_1", 1.5, 2, False),
                ("vgg13-vgg8", 4.5, 2, False),
                ("vgg13-mobilenet_v2", 15.0, 2, True),
                ("resnet50-mobilenet_v2", 40.0, 2, True),
                ("resnet32x4-shufflenet_v1", 600.0, 4, True),
                ("resnet32x4-shufflenet_v2", 600.0, 4, True),
                ("wrn_40_2-shufflenet_v1", 80.0, 4, True),
            )
        },
    ),
    # haiduo/DeepKD, `configs/cifar100/ours/crld/*.yaml` and, for ImageNet,
    # `configs/imagenet/*/deepkd_crld.yaml`.
    "crld": MethodRecipe(
        by_data={
            "imagenet": {"task_weight": 2.0, "methods.crld.temperature": 1.0},
        },
        by_pair={
            pair: {"methods.crld.within_weight": weight}
            for weight, pairs in {
                0.5: (
                    "resnet56-resnet20",
                    "wrn_40_2-wrn_40_1",
                    "resnet32x4-shufflenet_v2",
                ),
                1.0: ("resnet110-resnet32",),
            }.items()
            for pair in pairs
        },
    ),
    # zhengli97/CTKD, `scripts/run_cifar_distill.sh` and `run_imagenet_distill.sh`.
    "ctkd": MethodRecipe(
        fields={"task_weight": 0.1},
        by_data={
            "imagenet": {
                "task_weight": 1.0,
                "methods.ctkd.weight": 1.0,
                "methods.ctkd.curriculum": 5,
            }
        },
    ),
    # haiduo/DeepKD, `configs/cifar100/ours/kd/*.yaml` and, for ImageNet,
    # `configs/imagenet/*/deepkd_kd.yaml`.
    "deepkd": MethodRecipe(
        fields={"task_weight": 0.5},
        by_data={"imagenet": {"methods.deepkd.temperature": 1.0}},
    ),
    # facebookresearch/deit, `main.py` and README, for ImageNet: without the random
    # augmentations and the repeated images of its data loader.
    "deit": MethodRecipe(
        fields={"task_weight": 0.5},
        by_data={
            "imagenet": {
                "batch_size": 1024,
                "epochs": 300,
                "optimizer.learning_rate": 1e-3,
                "optimizer.final_factor": 0.01,
                "label_smoothing": 0.1,
                "model_kwargs": "stochastic_depth=0.1",
                "data.mixup": 0.8,
                "data.cutmix": 1.0,
                "data.random_erasing": 0.25,
            }
        },
    ),
    # hunto/image_classification_sota, `configs/strategies/distill/dist_cifar.yaml`; the
    # defaults of the method are those of ImageNet.
    "dist": MethodRecipe(
        fields={"methods.dist.weight": 2.0, "methods.dist.temperature": 4.0},
        by_data={
            "imagenet": {"methods.dist.weight": 1.0, "methods.dist.temperature": 1.0}
        },
    ),
    # megvii-research/mdistiller, `configs/cifar100/dkd/*.yaml`; 8 is the default.
    "dkd": MethodRecipe(
        by_pair={
            pair: {"methods.dkd.beta": beta}
            for beta, pairs in {
                2.0: ("resnet56-resnet20", "resnet110-resnet32"),
                6.0: (
                    "vgg13-vgg8",
                    "vgg13-mobilenet_v2",
                    "wrn_40_2-wrn_16_2",
                    "wrn_40_2-wrn_40_1",
                ),
            }.items()
            for pair in pairs
        }
    ),
    "fsp": MethodRecipe(fields={"distill_first.epochs": 30, "methods.fsp.weight": 1.0}),
    "kd": MethodRecipe(fields={"task_weight": 0.1, "methods.kd.weight": 0.9}),
    # Stages of other widths are joined by a convolution, where the original refuses.
    "kd_svd": MethodRecipe("mhgd", {"methods.kd_svd.widths": "connect"}),
    "mhgd": MethodRecipe(
        "mhgd",
        {"methods.mhgd.widths": "connect"},
        # The figure of the authors' code; those of the slides are of the other form.
        by_pair={"resnet32x4-resnet8x4": {"methods.mhgd.smoothing": "centered_tanh"}},
    ),
    # Jin-Ying/Multi-Level-Logit-Distillation, `mdistiller/engine/cfg.py` and
    # `configs/imagenet/*/kd_ours.yaml`, with the temperature 1 instead of 4.
    "mlkd": MethodRecipe(
        fields={"task_weight": 0.1, "methods.mlkd.views": 2},
        by_data={
            "imagenet": {
                "task_weight": 0.5,
                "methods.mlkd.weight": 0.5,
                "methods.mlkd.temperatures": (1.0, 2.0, 3.0, 5.0, 6.0),
                "methods.mlkd.second_temperatures": (1.0, 3.0, 5.0),
            }
        },
    ),
    "mutual_learning": MethodRecipe(
        "mhgd",
        {
            "methods.mutual_learning.peer": "{teacher}",
            "methods.mutual_learning.distance": "symmetric",
        },
    ),
    # The distance is a sum over the image. That of the digits has a sixteenth of the
    # pixels, and the weight makes up for it. Networks for 64x64 images halve them at
    # once. ImageNet's weight is the authors'; so is the batch of the pyramidal teacher.
    "overhaul": MethodRecipe(
        "ofd",
        by_data={
            "imagenet": {"methods.overhaul.weight": 1e-4},
            "digits": {"methods.overhaul.weight": 1.6e-2},
        },
        by_pair={
            "pyramidnet_200_240-wrn_28_4": {"batch_size": 64},
            "pyramidnet_200_240-pyramidnet_110_84": {"batch_size": 64},
        },
    ),
    # yzd-v/cls_KD, `configs/distillers/cifar100/res34_distill_res18_cifar.py` and the
    # same for ImageNet, of WSLD too; the defaults of the methods are those of ImageNet.
    "nkd": MethodRecipe(
        fields={"methods.nkd.temperature": 3.0, "methods.nkd.gamma": 3.5},
        by_data={
            "imagenet": {"methods.nkd.temperature": 1.0, "methods.nkd.gamma": 1.5}
        },
    ),
    # dvlab-research/ReviewKD, `CIFAR-100/script/reviewKD.sh`.
    "review": MethodRecipe(
        "review",
        {"methods.review.weight": 5.0},
        by_data={"imagenet": {"methods.review.weight": 1.0}},
        by_pair={
            "resnet56-resnet20": {"methods.review.weight": 0.6},
            "resnet110-resnet32": {"methods.review.weight": 1.0},
            "resnet32x4-shufflenet_v2": {"methods.review.weight": 8.0},
        },
    ),
    # zju-SWJ/RLD, `configs/imagenet/*/rld.yaml`.
    "rld": MethodRecipe(
        by_data={
            "imagenet": {
                "methods.rld.beta": 0.5,
                "methods.rld.temperature": 1.0,
                "methods.rld.warm_up": 1,
            }
        }
    ),
    # shicaiwei123/SDD-CVPR2024, `configs/cifar100/sdd_dkd/*.yaml` and its scripts.
    "sdd": MethodRecipe(
        by_pair={
            pair: {"methods.sdd.beta": beta, "methods.sdd.levels": levels}
            for pair, beta, levels in (
                ("resnet56-resnet20", 2.0, (1, 2)),
                ("resnet110-resnet32", 2.0, (1, 2)),
                ("resnet32x4-resnet8x4", 8.0, (1, 2)),
                ("vgg13-vgg8", 6.0, (1, 2)),
                ("wrn_40_2-wrn_16_2", 6.0, (1, 2)),
                ("wrn_40_2-wrn_40_1", 6.0, (1, 2)),
                ("vgg13-mobilenet_v2", 6.0, (1, 2, 4)),
            )
        }
    ),
    # DefangChen/SimKD, `scripts/run_distill.sh`: the maps alone. In 120 steps on the
    # digits the published weight is too slow; of 1, 10 and 100 this one was chosen on
    # held-out training images.
    "simkd": MethodRecipe(
        fields={"task_weight": 0.0},
        by_data={"digits": {"methods.simkd.weight": 10.0}},
    ),
    # xuguodong03/SSKD, `student.py`; the head's rate is the same for every pair.
    "sskd": MethodRecipe(
        fields={
            "task_weight": 0.1,
            "pretrain.epochs": 60,
            "pretrain.optimizer.lr_milestones": (0.5, 0.75),
        }
    ),
    # On the digits, at twice the learning rate, the published weight diverges.
    "ttm": MethodRecipe(by_data={"digits": {"methods.ttm.weight": 4.5}}),
    # JiamingLv/WKD, `configs/*/*/wkd_f.yaml` and `wkd_l.yaml`.
    "wkd_features": MethodRecipe(
        by_data={
            "imagenet": {
                "methods.wkd_features.weight": 0.02,
                "methods.wkd_features.mean_weight": 2.0,
                "methods.wkd_features.grid": 4,
                "methods.wkd_features.decay_from": 0.0,
            }
        },
        by_pair={
            "wrn_40_2-shufflenet_v1": {
                "methods.wkd_features.weight": 0.3,
                "methods.wkd_features.mean_weight": 3.0,
                "methods.wkd_features.grid": 4,
            },
            "resnet50@224-mobilenet@224": {
                "methods.wkd_features.weight": 0.005,
                "methods.wkd_features.decay_from": 0.3,
            },
        },
    ),
    "wkd_logits": MethodRecipe(
        by_data={
            "imagenet": {
                "methods.wkd_logits.gamma": 30.0,
                "methods.wkd_logits.temperature": 2.0,
                "methods.wkd_logits.cost": "logits",
                "methods.wkd_logits.decay_from": 0.0,
            },
        },
        by_pair={
            "wrn_40_2-shufflenet_v1": {
                "methods.wkd_logits.gamma": 200.0,
                "methods.wkd_logits.temperature": 6.0,
            },
            "resnet50@224-mobilenet@224": {
                "methods.wkd_logits.gamma": 25.0,
                "methods.wkd_logits.sharpness": 2.0,
            },
        },
    ),
    "wsld": MethodRecipe(
        fields={"methods.wsld.weight": 2.25, "methods.wsld.temperature": 4.0},
        by_data={
            "imagenet": {"methods.wsld.weight": 2.5, "methods.wsld.temperature": 2.0}
        },
    ),
}


def of_methods(
    names: str, argument: str, **given: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """Returns a distillation with the settings that published figures were obtained by.

    Args:
      names: a method, or several joined by "+", by name or alias. The recipe, the
        weight of the cross-entropy and the phases are those of the first.
      argument: as for `recipes.parse`, with a pair.
      **given: hyperparameters by the method's name, which replace the published.

    Raises:
      ValueError: if there is no such method, or the argument names no pair.
    """
    methods = [distill.canonical(name) for name in names.split("+")]
    first, networks = methods[0], recipes.parse(argument)
    fields = {}
    for name in reversed(methods):
        own = METHOD_RECIPES.get(name, MethodRecipe()).settings(networks)
        prefix = f"methods.{name}."
        fields |= {k: v for k, v in own.items() if name == first or prefix in k}
    hyperparameters = {
        name: {
            field.removeprefix(f"methods.{name}."): value
            for field, value in fields.items()
            if field.startswith(f"methods.{name}.")
        }
        | dict(given.get(name, {}))
        for name in methods
    }
    recipe = METHOD_RECIPES.get(first, MethodRecipe()).recipe
    config = recipes.distillation(argument, hyperparameters, recipe)
    config.update_from_flattened_dict(
        {k: v for k, v in fields.items() if not k.startswith("methods.")}
    )
    return config
