"""Every configuration, and what is rejected before anything is written."""

import importlib
import json
import pathlib
import re

import pytest

from experiments import published
from kdjax import distill, method_recipes, recipes, train
from kdjax.config import checks, fields
from kdjax.config.__main__ import page as page_of_fields

ROOT = pathlib.Path(__file__).parent.parent.parent

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
    "wrn_16_2@64-wrn_10_1@64,tiny_imagenet",
]

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
        "wrn_16_2@64-wrn_10_1@64,tiny_imagenet",
    ],
    "funmatch": [None, "resnet50@224-resnet18@224,imagenet"],
    "kd_svd": [None, *GRAPH_PAIRS],
    "mhgd": [None, *GRAPH_PAIRS],
    "mhgd_distill_first": [None, *GRAPH_PAIRS],
    "mhgd_heads": [
        None,
        *(f"{heads},mhgd_vgg16-mhgd_vgg7" for heads in (1, 2, 4, 8, 16)),
        "8,wrn_16_2@64-wrn_10_1@64,tiny_imagenet",
    ],
    "mutual_learning": [
        None,
        "wrn_16_2-wrn_10_1,digits",
        "wrn_16_2@64-wrn_10_1@64,tiny_imagenet",
    ],
    "distill": [
        None,
        "dkd,resnet50-mobilenet_v2",
        "at,wrn_40_2-wrn_40_1,cifar10",
        "overhaul+kd,wrn_16_2-wrn_10_1,digits",
        "ofd,wrn_40_2-wrn_16_2,cifar100,crd",
        "review,wrn_16_2@64-wrn_10_1@64,tiny_imagenet",
    ],
    "teacher": [
        None,
        "wrn_28_4",
        "pyramidnet_200_240",
        "wrn_22_4",
        "wrn_16_2,digits",
        "wrn_28_4,cifar10",
        "wrn_10_1@64,tiny_imagenet",
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
        "wrn_10_1@64,tiny_imagenet",
    ],
    "digits": [None, "wrn_16_2-resnet8"],
    "deit": [None, "wrn_16_2-vit_4_64_distilled,digits"],
}


def load(name, argument=None):
    module = importlib.import_module(f"configs.{name}")
    return module.get_config() if argument is None else module.get_config(argument)


def test_every_file_is_tested():
    files = {path.stem for path in (ROOT / "configs").glob("[!_]*.py")}
    assert files - {"__init__"} == set(ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, given in ARGUMENTS.items() for argument in given],
)
def test_configurations_have_every_field_and_possible_values(name, argument):
    config = load(name, argument)
    checks.check_values(config)
    assert config.keys() == fields.default().keys()
    assert bool(config.methods) == (name not in ("teacher", "student"))
    distill.build(config.methods, num_classes=10, num_examples=50_000)
    if argument is not None and argument.endswith("tiny_imagenet"):
        assert (config.data.name, config.data.padding) == ("tiny_imagenet", 8)
        assert config.model == "wrn_10_1@64"


@pytest.mark.parametrize("name", sorted({*ARGUMENTS} - {"mhgd_heads"}))
def test_configurations_pass_the_check_of_networks_and_data(name):
    pair = "wrn_16_2" if name in ("teacher", "student") else "wrn_16_2-wrn_10_1"
    # Whose student has a distillation token.
    pair = "wrn_16_2-vit_4_64_distilled" if name == "deit" else pair
    pair = pair if name == "digits" else f"{pair},digits"
    config = load(name, f"kd,{pair}" if name == "distill" else pair)
    if config.methods:
        assert config.teacher.model
        config.teacher.checkpoint = "somewhere"
    checks.check(config)


def test_recipes_are_as_published():
    """Snapshots of every recipe on every data set: fields other than the default's."""
    snapshots = json.loads((ROOT / "tests/golden/recipes.json").read_text())
    made = {
        f"{recipe}/{data}": recipes.compose(recipe, data)
        for recipe in ("ofd", "mhgd", "crd")
        for data in recipes.DATA
    } | {
        f"teacher/{data}": recipes.teacher(f"wrn_16_2,{data}") for data in recipes.DATA
    }
    assert made.keys() == snapshots.keys()
    for name, config in made.items():
        found = {
            path: json.loads(json.dumps(fields.value(config, path)))
            for path in fields.FIELDS
            if path != "model"
            and fields.value(config, path) != fields.FIELDS[path].default
        }
        assert found == snapshots[name], name


def test_the_recipe_of_reviewkd_is_the_released_one():
    config = load("distill", "review,resnet32x4-shufflenet_v2")
    assert (config.batch_size, config.epochs, config.methods.review.weight) == (
        128,
        240,
        8,
    )
    assert [round(240 * at) for at in config.optimizer.lr_milestones] == [151, 181, 211]
    assert (config.optimizer.learning_rate, config.optimizer.nesterov) == (0.02, True)
    assert config.teacher.batch_norm == "batch"
    assert load("distill", "review,resnet56-resnet20").optimizer.learning_rate == 0.1


def test_published_figures_have_the_settings_of_their_sources():
    for figure in published.read():
        networks = f"{figure.pair},{figure.data}"
        methods = [figure.method]
        methods += [
            x.split(".")[1] for x in figure.hyperparameters if x[:8] == "methods."
        ]
        config = method_recipes.of_methods("+".join(dict.fromkeys(methods)), networks)
        for path, value in figure.hyperparameters.items():
            found = fields.value(config, path)
            # Those of a variant are given on the command line: the field is there.
            same = type(found) is type(value) if figure.variant else found == value
            assert same, (figure, path)
        expected = recipes.compose(figure.recipe, figure.data)
        assert config.epochs == expected.epochs
        assert figure.epochs == figure.hyperparameters.get("epochs", config.epochs)
        assert config.optimizer.lr_milestones == expected.optimizer.lr_milestones
        assert config.data == expected.data
        assert config.teacher.batch_norm == expected.teacher.batch_norm


def test_methods_are_joined_in_an_argument():
    """Recipe, phases and weight of the cross-entropy are those of the first."""
    config = load("distill", "ofd+kd+dkd,wrn_40_2-wrn_16_2")
    assert set(config.methods) == {"overhaul", "kd", "dkd"}
    assert (config.task_weight, config.epochs) == (1.0, 200)
    assert (config.methods.kd.weight, config.methods.dkd.beta) == (0.9, 6.0)
    config = load("distill", "kd+ab,wrn_40_2-wrn_16_2")
    assert (config.task_weight, config.distill_first.epochs) == (0.1, 0)
    assert config.methods.activation_boundary.weight == 3e-3


def test_a_recipe_in_the_argument_replaces_that_of_the_method():
    config = load("distill", "ofd,wrn_40_2-wrn_16_2,cifar100,crd")
    assert (config.batch_size, config.epochs) == (64, 240)
    assert config.methods.overhaul.weight == 1e-3


def test_a_data_set_is_one_function(monkeypatch):
    """Every recipe and every configuration takes it."""

    def mine(config):
        config.data.name = "folder"
        config.data.padding = 2

    monkeypatch.setitem(recipes.DATA, "mine", mine)
    for name in ("overhaul", "mhgd", "kd_svd"):
        config = load(name, "wrn_16_2-wrn_10_1,mine")
        assert (config.data.name, config.data.padding) == ("folder", 2)
        assert config.methods


def test_the_page_of_fields_is_what_the_table_prints():
    """If not: make docs."""
    page = (ROOT / "docs/configuration.md").read_text()
    assert page == "\n".join(page_of_fields()) + "\n"


def test_a_set_that_is_not_prepared_is_rejected_with_the_command(tmp_path):
    config = load("student", "wrn_10_1@64,tiny_imagenet")
    config.data.data_dir = str(tmp_path)
    command = "python -m kdjax.data.prepare tiny_imagenet --archive=PATH"
    with pytest.raises(FileNotFoundError, match=command):
        checks.check(config)


def test_a_small_network_for_larger_images_has_its_own_rate():
    assert load("distill", "dkd,vgg13@64-mobilenet_v2@64,tiny_imagenet").optimizer == (
        load("distill", "dkd,vgg13-mobilenet_v2").optimizer
    )


def test_the_pyramidal_teacher_alone_is_trained_with_mixup():
    assert load("teacher", "pyramidnet_200_240").data.mixup == 1
    assert load("teacher").data.mixup == 0
    assert load("overhaul", "pyramidnet_200_240-wrn_28_4").data.mixup == 0


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("overhaul", "wrn_16_2", "'wrn_16_2' names no pair"),
        ("overhaul", "wrn_16_2-wrn_16_1,mnist", "data 'mnist' has no recipe"),
        ("teacher", "wrn_16_2-wrn_16_1", "names a pair: give one network"),
        ("overhaul", "wrn_16_2-wrn_16_1,digits,mine", "recipe 'mine' is none of"),
        ("overhaul", "a-b,digits,ofd,x", "not of the form networks"),
        ("distill", "kd", "'kd' is not of the form method,teacher-student"),
        ("distill", "kdd,wrn_16_2-wrn_16_1", "method 'kdd' is none of"),
        ("mhgd_heads", "wrn_22_4-wrn_10_4", "does not start with a number of heads"),
    ],
)
def test_arguments_that_make_no_sense_are_rejected(name, argument, message):
    with pytest.raises(ValueError, match=message):
        load(name, argument)


def test_mhgd_distill_first_differs_in_its_phases_and_weight_alone():
    together, first = load("mhgd"), load("mhgd_distill_first")
    assert (together.distill_first.epochs, first.distill_first.epochs) == (0, 40)
    assert (together.methods.mhgd.weight, first.methods.mhgd.weight) == (128, 0.03)
    together.distill_first.epochs = 40
    together.methods.mhgd.weight = 0.03
    assert together == first


BAD_VALUES = [
    ("data.crop", "per_imag", r"data\.crop='per_imag' is none of .*did you mean 'per_"),
    ("dtype", "float16", 'dtype=\'float16\' is none of "float32", "bfloat16"'),
    ("batch_norm", "frozen", "batch_norm='frozen' is none of"),
    ("data.padding_mode", "edge", r"data\.padding_mode='edge' is none of"),
    ("teacher.batch_norm", "eval", r"teacher\.batch_norm='eval' is none of"),
    ("data.name", "mnist", r"data\.name='mnist' is none of digits, cifar10,"),
    ("data.image_size", 8, r"data\.image_size=8 but data\.name='digits': its"),
    ("data.image_size", -1, r"data\.image_size=-1 is not in \[0, 4096\]"),
    ("data.bad_images", "keep", r"data\.bad_images='keep' is none of"),
    ("data.validation_fraction", 1.0, r"data\.validation_fraction=1\.0 is not in \["),
    ("data.train_fraction", 0.0, r"data\.train_fraction=0\.0 is not in \(0, 1\]"),
    ("data.train_fraction", 1.5, r"data\.train_fraction=1\.5 is not in \(0, 1\]"),
    ("data.eval_crop", 0.0, r"data\.eval_crop=0\.0 is not in \(0, 1\]"),
    ("data.random_erasing", -0.5, r"data\.random_erasing=-0\.5 is not in \[0, 1\]"),
    ("data.augment", "randaug", r"data\.augment='randaug' is none of .* mean 'rand_a"),
    ("data.augment_magnitude", 31, r"data\.augment_magnitude=31 is not in \[0, 30\]"),
    ("data.color_jitter", (0.4,), r"data\.color_jitter=\(0\.4,\) must have 4 values"),
    ("data.color_jitter", (0, 0, 0, 0.6), r"turns the hue by 0\.6, more than half"),
    ("data.mean", (1.0,), r"data\.mean=\(1\.0,\) must have 3 values"),
    ("data.std", (1.0, 0.0, 1.0), r"data\.std=\(.*\) has 0, which is not more than 0"),
    (
        "data.std",
        (0.2, 0.2, 0.2),
        r"data\.std=\(0\.2, .* units of 0\.\.1.*multiply both",
    ),
    ("batch_size", 0, "batch_size=0 is not at least 1"),
    ("batch_size", 100_000, "batch_size=100000 is more than the 1797 images"),
    ("epochs", 0, "epochs=0 is not at least 1"),
    ("seed", -1, r"seed=-1 is not in \[0, 4294967295\]"),
    ("data.padding", -1, r"data\.padding=-1 is not at least 0"),
    ("data.padding", 8, r"data\.padding=8 is not less than the images' size of 8x8"),
    ("data.mixup", float("nan"), r"data\.mixup=nan is not finite"),
    ("optimizer.learning_rate", -0.1, r"optimizer\.learning_rate=-0\.1 is not at"),
    ("optimizer.learning_rate", float("inf"), r"learning_rate=inf is not finite"),
    ("optimizer.momentum", 5.0, r"optimizer\.momentum=5\.0 is not in \[0, 1\)"),
    ("optimizer.momentum", -1.0, r"optimizer\.momentum=-1\.0 is not in \[0, 1\)"),
    ("optimizer.lr_milestones", (0.5, 1.0), r"has 1, which is not in \[0, 1\)"),
    ("optimizer.lr_milestones", (0.5, 0.2), r"\(0\.5, 0\.2\) must ascend"),
    ("optimizer.lr_milestones", (0.5, 0.5), r"\(0\.5, 0\.5\) must ascend"),
    ("pretrain.epochs", 0, r"pretrain\.epochs=0 is not at least 1"),
    ("pretrain.optimizer.lr_milestones", (-0.5,), "has -0.5, which is not in"),
    ("distill_first.epochs", -1, r"distill_first\.epochs=-1 is not at least 0"),
    ("model", "wrn_17_2", "model: no network is called 'wrn_17_2'"),
    ("model", "resnt20", "no network is called 'resnt20'; .*; did you mean 'resnet20'"),
    ("model", "resnet1208", "model: 'resnet1208' has depth 1208, which is more than"),
    ("model", "wrn_10_65", "model: 'wrn_10_65' has widen 65, which is more than 64"),
    ("model", "pyramidnet_110_2049_basic", "has alpha 2049, which is more than 2048"),
    ("teacher.model", "", r"teacher\.model: no network is called ''"),
    ("teacher.checkpoint", "", r"teacher\.checkpoint='' but methods=\['overhaul'\]"),
    ("methods.overhaul.margin", "guess", r"methods\.overhaul\.margin='guess'"),
    ("methods.overhaul.weight", float("inf"), r"methods\.overhaul\.weight=inf is not"),
    ("methods.overhaul.weight", -1.0, r"methods\.overhaul\.weight=-1\.0 is not"),
    ("methods.overhaul.warm_up", -1, r"methods\.overhaul\.warm_up=-1 is"),
    ("methods.overhaul.gradient_combination", "dott", "is none of .*mean 'dot'"),
    ("model_kwargs", "dropout=1.0", r"model_kwargs='dropout=1.0': dropout is not in"),
    ("model_kwargs", "widen=2", r"'wrn_10_1' has no 'widen', but \['dropout', 'stoc"),
    ("model_kwargs", "0.5", "model_kwargs='0.5' is not of the form name=value"),
    ("early_stop_epochs", 3, "early_stop_epochs=3 but data.validation_fraction=0"),
    ("optimizer.momentum_delta", 1.0, r"optimizer\.momentum_delta=1\.0 is not in"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_VALUES)
def test_bad_values_are_rejected_before_anything_is_written(
    tmp_path, field, value, message
):
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = "somewhere"
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message) as error:
        train.train_and_evaluate(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("momentum", "delta"), [(0.95, 0.075), (0.05, 0.075)])
def test_two_momenta_must_both_be_possible(momentum, delta):
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"kd": {}})
    config.teacher.checkpoint = "somewhere"
    config.optimizer.momentum, config.optimizer.momentum_delta = momentum, delta
    checks.check(config)
    config.methods.kd.gradient_combination = "dot"
    sign, name = ("+", "dot") if momentum > 0.5 else ("-", "task")
    message = (
        rf"momentum={momentum} \{sign} {delta}, .* methods=..kd.. ask for the gradient "
        f"'{name}', is not"
    )
    with pytest.raises(ValueError, match=message):
        checks.check(config)
    config.optimizer.name = "adamw"
    with pytest.raises(ValueError, match=r"name='adamw' has no momentum for each of"):
        checks.check(config)
    config.task_weight = 0.0  # Nothing to keep apart.
    checks.check(config)


@pytest.mark.parametrize(
    ("given", "devices", "message"),
    [
        ({"batch_size": 30}, 4, "batch_size=30 gives a batch of 30 images, .* the 4 d"),
        ({"data.validation_fraction": 0.3}, 4, "last batch of 3 images, .* the 4 dev"),
        ({"data.train_fraction": 0.001}, None, "into 1 and 999, fewer than the 10 cl"),
        (
            {"data.train_fraction": 0.02, "data.drop_remainder": True},
            None,
            "batch_size=32 is more than the 20 training images",
        ),
        ({"batch_size": 1}, 1, "makes batches of 1, but methods.rkd compares the"),
        (
            {"batch_size": 2, "methods.rkd.scope": "per_device"},
            2,
            "methods.rkd compares the images of a batch on each of 2 devices",
        ),
        (
            {"batch_size": 2, "model": "mobilenet_v2"},
            2,
            "a batch of 2, which leaves the batch norm .* of model='mobilenet_v2' one",
        ),
        (
            {"batch_size": 5, "teacher.model": "mobilenet_v2"},
            1,
            "a last batch of 1, which leaves .* teacher.model=.*data.drop_remainder=T",
        ),
    ],
)
def test_batches_that_cannot_be_shared_or_learned_from_are_rejected(
    given, devices, message
):
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"rkd": {}})
    config.teacher.checkpoint = "somewhere"
    for allowed in (1, 4):
        checks.check(config, allowed)
    config.update_from_flattened_dict(given)
    with pytest.raises(ValueError, match=message) as error:
        checks.check(config, devices)
    assert "\n" not in str(error.value)


def test_one_image_is_a_batch_where_nothing_needs_more():
    config = recipes.alone("mobilenet_v2,digits")
    config.batch_size, config.batch_norm = 2, "synchronized"
    checks.check(config, 2)
    config = recipes.alone("wrn_10_1,digits")
    config.batch_size = 1
    checks.check(config, 1)


@pytest.mark.parametrize("labeled", [["crd", "dkd"], ["jacobian"]])
def test_methods_that_need_the_label_are_rejected_with_mixup(labeled):
    methods = {name: {} for name in [*labeled, "overhaul", "rkd"]}
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", methods)
    config.teacher.checkpoint = "somewhere"
    checks.check(config)
    for field in ("mixup", "cutmix"):
        config.data[field] = 0.5
        message = f"data.{field}=0.5 mixes images of two classes, but methods={labeled}"
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            checks.check(config)
        assert "\n" not in str(error.value)
        config.data[field] = 0.0
    config.data.mixup = 0.5
    for name in labeled:
        del config.methods[name]
    checks.check(config)


def test_a_field_that_there_is_not_is_rejected():
    """In a file; the command line rejects it by itself."""
    config = recipes.alone("wrn_10_1,digits")
    config.optimizer.learning_rates = 0.1
    with pytest.raises(ValueError, match=r"did you mean optimizer\.learning_rate\?"):
        checks.check(config)
    del config.optimizer["learning_rates"]
    del config.optimizer["momentum"]
    with pytest.raises(ValueError, match=r"optimizer\.momentum: the conf.* lacks"):
        checks.check(config)


def test_a_value_of_another_type_is_rejected():
    config = recipes.alone("wrn_10_1,digits")
    with config.ignore_type():
        config.epochs = "40"
    with pytest.raises(ValueError, match="epochs='40' is not an integer"):
        checks.check(config)


def test_a_loss_that_is_always_zero_is_rejected():
    config = recipes.alone("wrn_10_1,digits")
    config.task_weight = 0.0
    with pytest.raises(ValueError, match="task_weight=0 but there are no methods"):
        checks.check(config)
    config = load("distill", "fsp,wrn_16_2-wrn_10_1,digits")
    config.task_weight = 0.0
    with pytest.raises(ValueError, match=r"distill_first\.epochs=30 leaves the task"):
        checks.check(config)
