"""Every configuration, and what is refused before anything is written."""

import importlib
import pathlib
import re

import pytest

from kdjax import config as config_lib
from kdjax import recipes, train

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"

#: The pairs of the tables of MHGD.
GRAPH_PAIRS = [
    "mhgd_vgg16-mhgd_vgg7",
    "wrn_22_4-wrn_10_4",
    "wrn_22_4-mhgd_vgg_strided",
    "wrn_22_4-mhgd_mobilenet",
    "wrn_22_4-mhgd_resnet",
    "resnet32x4-resnet8x4",
    "wrn_16_2-wrn_10_2,digits",
    "wrn_22_4-wrn_10_4,cifar10",
]

#: Some pairs of the benchmark: of one family, and of others.
BENCHMARK_PAIRS = ["wrn_40_2-wrn_40_1", "resnet50-mobilenet_v2"]

#: The arguments that the docstrings name; every file under configs/ is here.
ARGUMENTS = {
    "overhaul": [
        None,
        "wrn_28_4-wrn_16_4",
        "wrn_28_4-wrn_28_2",
        "wrn_28_4-wrn_16_2",
        "wrn_28_4-resnet56",
        "pyramidnet_200_240-wrn_28_4",
        "pyramidnet_200_240-pyramidnet_110_84",
        "wrn_16_2-wrn_16_1,digits",
        "wrn_16_2-wrn_16_1,cifar10",
    ],
    "kd_svd": [None, *GRAPH_PAIRS],
    "mhgd": [None, *GRAPH_PAIRS],
    "mhgd_distill_first": [None, *GRAPH_PAIRS],
    "mhgd_heads": [
        None,
        *(f"{heads},mhgd_vgg16-mhgd_vgg7" for heads in (1, 2, 4, 8, 16)),
    ],
    **{
        name: [
            None,
            *BENCHMARK_PAIRS,
            "wrn_16_2-wrn_10_1,digits",
            "wrn_40_2-wrn_40_1,cifar10",
        ]
        for name in (
            *("activation_boundary", "attention_transfer", "correlation_congruence"),
            *("crd", "dist", "dkd", "factor_transfer", "fitnets", "fsp", "jacobian"),
            *("mutual_learning", "nst", "pkt", "review", "rkd"),
            *("similarity_preserving", "soft_targets", "vid"),
        )
    },
    "teacher": [
        None,
        "wrn_28_4",
        "pyramidnet_200_240",
        "wrn_22_4",
        "wrn_16_2,digits",
        "wrn_28_4,cifar10",
    ],
    "student": [
        None,
        "wrn_16_4",
        "wrn_28_2",
        "wrn_16_2",
        "resnet56",
        "pyramidnet_110_84",
        "wrn_16_1,digits",
        "wrn_16_2,cifar10",
    ],
    "digits": [None, "wrn_16_2-resnet8"],
}


def load(name, argument=None):
    module = importlib.import_module(f"configs.{name}")
    return module.get_config() if argument is None else module.get_config(argument)


def test_every_file_is_tested():
    assert {path.stem for path in CONFIGS.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, given in ARGUMENTS.items() for argument in given],
)
def test_configurations_are_complete_and_sound(name, argument):
    config = load(name, argument)
    assert config.keys() == config_lib.default().keys()
    if config.methods:
        assert config.teacher.model
        config.teacher.checkpoint = "somewhere"
    config_lib.check(config)


@pytest.mark.parametrize("name", sorted({*ARGUMENTS} - {"digits"}))
def test_every_configuration_can_be_made_for_tiny_imagenet(name):
    heads = "8," if name == "mhgd_heads" else ""
    pair = (
        "wrn_10_1@64" if name in ("teacher", "student") else "wrn_16_2@64-wrn_10_1@64"
    )
    config = load(name, f"{heads}{pair},tiny_imagenet")
    assert config.keys() == config_lib.default().keys()
    assert (config.data.name, config.data.padding) == ("tiny_imagenet", 8)
    assert config.model == "wrn_10_1@64"


def test_a_set_that_is_not_prepared_is_refused_with_the_command(tmp_path):
    config = load("student", "wrn_10_1@64,tiny_imagenet")
    config.data.data_dir = str(tmp_path)
    command = "python -m kdjax.data.prepare tiny_imagenet --archive=PATH"
    with pytest.raises(FileNotFoundError, match=command):
        config_lib.check(config)


def test_a_small_network_for_larger_images_has_its_own_rate():
    assert load("dkd", "vgg13@64-mobilenet_v2@64,tiny_imagenet").optimizer == (
        load("dkd", "vgg13-mobilenet_v2").optimizer
    )


def test_the_benchmark_recipe_is_the_released_one():
    config = load("soft_targets")
    assert (config.batch_size, config.epochs, config.task_weight) == (64, 240, 0.1)
    assert [round(240 * at) for at in config.optimizer.lr_milestones] == [150, 180, 210]
    assert (config.optimizer.learning_rate, config.optimizer.nesterov) == (0.05, False)
    assert not config.optimizer.reset_momentum
    assert (config.data.padding_mode, config.teacher.batch_norm) == ("zero", "running")
    small = load("dkd", "resnet32x4-shufflenet_v1")
    assert small.optimizer.learning_rate == 0.01
    assert load("activation_boundary").distill_first.epochs == 30
    assert load("factor_transfer").pretrain.epochs == 30


def test_pyramidal_teachers_teach_batches_of_64():
    """As in the authors' settings e and f."""
    assert load("overhaul", "pyramidnet_200_240-wrn_28_4").batch_size == 64


def test_the_pyramidal_teacher_alone_is_trained_with_mixup():
    assert load("teacher", "pyramidnet_200_240").data.mixup == 1
    assert load("teacher").data.mixup == 0
    assert load("overhaul", "pyramidnet_200_240-wrn_28_4").data.mixup == 0


def test_the_ofd_recipe_is_the_released_one():
    config = load("overhaul")
    assert (config.batch_size, config.epochs) == (128, 200)
    assert config.optimizer.to_dict() == {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "lr_milestones": (0.5, 0.75),
        "lr_gamma": 0.1,
        "reset_momentum": True,
    }
    data = config.data
    assert (data.padding, data.padding_mode, data.flip) == (4, "reflect", True)
    assert data.mean == (125.3, 123.0, 113.9)
    assert data.std == (63.0, 62.1, 66.7)
    assert not data.drop_remainder
    assert config.teacher.batch_norm == "batch"
    assert config.methods.overhaul.to_dict() == {
        "weight": 1e-3,
        "warm_up": 0,
        "margin": "closed_form",
    }


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("overhaul", "wrn_16_2", "'wrn_16_2' names no pair"),
        ("overhaul", "wrn_16_2-wrn_16_1,mnist", "data 'mnist' has no recipe"),
        ("teacher", "wrn_16_2-wrn_16_1", "names a pair: give one network"),
        ("mhgd_heads", "wrn_22_4-wrn_10_4", "does not start with a number of heads"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(name, argument, message):
    with pytest.raises(ValueError, match=message):
        load(name, argument)


def test_the_mhgd_recipe_is_the_released_one():
    config = load("kd_svd")
    assert (config.batch_size, config.epochs) == (128, 100)
    assert config.optimizer.lr_milestones == (0.3, 0.6, 0.8)
    assert not config.optimizer.reset_momentum
    assert config.data.crop == "per_batch"
    assert config.data.mean == (112.4776, 124.1058, 129.3773)
    assert config.teacher.batch_norm == "running"
    config = load("mhgd")
    assert config.pretrain.epochs == 40
    assert config.pretrain.optimizer.to_dict() == {
        **load("teacher").optimizer.to_dict(),
        "lr_milestones": (),
        "weight_decay": 1e-3,
    }
    assert config.methods.mhgd.heads == 8
    assert config.methods.mhgd.smoothing == "tanh"


def test_the_initializing_configuration_differs_in_its_phases_and_weight_alone():
    together, first = load("mhgd"), load("mhgd_distill_first")
    assert (together.distill_first.epochs, first.distill_first.epochs) == (0, 40)
    assert (together.methods.mhgd.weight, first.methods.mhgd.weight) == (128, 0.03)
    together.distill_first.epochs = 40
    together.methods.mhgd.weight = 0.03
    assert together == first


BAD_VALUES = [
    ("data.crop", "never", r"data\.crop='never' is none of"),
    ("dtype", "float16", r"dtype='float16' is none of \('float32', 'bfloat16'\)"),
    ("batch_norm", "frozen", "batch_norm='frozen' is none of"),
    ("data.padding_mode", "edge", r"data\.padding_mode='edge' is none of"),
    ("teacher.batch_norm", "eval", r"teacher\.batch_norm='eval' is none of"),
    ("data.name", "mnist", r"data\.name='mnist' is none of digits, cifar10,"),
    ("data.image_size", 8, r"data\.image_size=8 but data\.name='digits': its"),
    ("data.image_size", -1, r"data\.image_size=-1 is less than 0"),
    ("data.bad_images", "keep", r"data\.bad_images='keep' is none of"),
    ("data.validation_fraction", 1.0, r"data\.validation_fraction=1\.0 is not in \["),
    ("data.train_fraction", 0.0, r"data\.train_fraction=0\.0 is not in \(0, 1\]"),
    ("data.train_fraction", 1.5, r"data\.train_fraction=1\.5 is not in \(0, 1\]"),
    ("data.eval_crop", 0.0, r"data\.eval_crop=0\.0 is not in \(0, 1\]"),
    ("data.random_erasing", 1.5, r"data\.random_erasing=1\.5 is not in \[0, 1\]"),
    ("data.random_erasing", -0.5, r"data\.random_erasing=-0\.5 is not in \[0, 1\]"),
    ("data.mean", (1.0,), r"data\.mean=\(1\.0,\) must have 3 values"),
    ("data.std", (1.0, 0.0, 1.0), r"data\.std=\(1\.0, 0\.0, 1\.0\) must be positive"),
    ("batch_size", 0, "batch_size=0 is less than 1"),
    ("epochs", 0, "epochs=0 is less than 1"),
    ("data.padding", -1, r"data\.padding=-1 is less than 0"),
    ("data.mixup", -0.5, r"data\.mixup=-0\.5 is less than 0"),
    ("data.mixup", float("nan"), r"data\.mixup=nan is less than 0"),
    ("optimizer.learning_rate", -0.1, r"optimizer\.learning_rate=-0\.1 is less than 0"),
    (
        "optimizer.learning_rate",
        float("nan"),
        r"optimizer\.learning_rate=nan is less than 0",
    ),
    (
        "optimizer.lr_milestones",
        (0.5, 1.0),
        r"optimizer\.lr_milestones=\(0\.5, 1\.0\) must be",
    ),
    ("pretrain.epochs", 0, r"pretrain\.epochs=0 is less than 1"),
    (
        "pretrain.optimizer.lr_milestones",
        (-0.5,),
        r"pretrain\.optimizer\.lr_milestones=\(-0\.5,\) must be",
    ),
    ("distill_first.epochs", -1, r"distill_first\.epochs=-1 is less than 0"),
    ("model", "wrn_17_2", "model: no network is called 'wrn_17_2'"),
    ("teacher.model", "", r"teacher\.model: no network is called ''"),
    ("teacher.checkpoint", "", r"teacher\.checkpoint='' but methods=\['overhaul'\]"),
    ("methods.overhaul.margin", "guess", r"methods\.overhaul\.margin='guess'"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_VALUES)
def test_bad_values_are_refused_before_anything_is_written(
    tmp_path, field, value, message
):
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = "somewhere"
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message) as error:
        train.train_and_evaluate(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labeled", [["crd", "dkd"], ["jacobian"]])
def test_methods_that_need_the_label_are_refused_with_mixup(labeled):
    methods = {name: {} for name in [*labeled, "overhaul", "rkd"]}
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", methods)
    config.teacher.checkpoint = "somewhere"
    config_lib.check(config)
    config.data.mixup = 0.5
    message = f"data.mixup=0.5 mixes images of two classes, but methods={labeled} need"
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        config_lib.check(config)
    assert "\n" not in str(error.value)
    for name in labeled:
        del config.methods[name]
    config_lib.check(config)
