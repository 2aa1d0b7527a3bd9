"""The fields of a configuration: one table of defaults, meanings and allowed values.

From it come the default configuration here, the checks in `kdjax.config.checks`, what
two runs must have in common in `kdjax.runs` and `experiments`, and the page
docs/configuration.md.
"""

from typing import Any

import ml_collections

from kdjax.config.field import Field

#: Which checkpoint of a work directory is loaded.
_STEP = Field(
    default="last",
    choices=("last", "best"),
    or_integer=True,
    doc='Its checkpoint: the "last", the "best" of those that it keeps, or a step.',
)


def _optimizer(prefix: str, lr_milestones: tuple[float, ...]) -> dict[str, Field]:
    """Returns the fields of one optimizer."""
    fields = {
        "learning_rate": Field(default=0.1, least=0, doc="Initial learning rate."),
        "momentum": Field(default=0.9, least=0, below=1, doc="Of SGD."),
        "nesterov": Field(default=True, doc="Use Nesterov's momentum, in SGD."),
        "weight_decay": Field(
            default=5e-4,
            least=0,
            doc="Coupled (added to the gradient), on every parameter; optimizers of"
            " Optax that have a weight decay of their own apply that.",
        ),
        "lr_milestones": Field(
            default=lr_milestones,
            least=0,
            below=1,
            ascending=True,
            doc="Fractions of the phase's epochs, ascending, at which the learning rate"
            " is multiplied by `lr_gamma`.",
        ),
        "lr_gamma": Field(default=0.1, above=0, doc="Factor at each milestone."),
        "reset_momentum": Field(
            default=True, doc="Set the momentum to zero at each milestone."
        ),
    }
    return {f"{prefix}.{name}": field for name, field in fields.items()}


#: Further fields of the optimizer of the training proper.
_TRAINING_OPTIMIZER = {
    "optimizer.name": Field(
        default="sgd",
        doc='"sgd", or an optimizer of Optax, as "adamw", "lamb", "lion" or'
        ' "optax.contrib.muon".',
    ),
    "optimizer.arguments": Field(
        default="",
        doc='Keyword arguments of an optimizer of Optax, as "b1=0.9, b2=0.99".',
    ),
    "optimizer.momentum_delta": Field(
        default=0.075,
        least=0,
        below=1,
        doc='For methods with `gradient_combination="dot"`: the momentum of the'
        " task's gradient is less by it, that of the distillation's more.",
    ),
    "optimizer.weight_decay_of": Field(
        default="all",
        choices=("all", "kernels"),
        doc='Parameters that decay; "kernels" leaves out norms, biases, tokens and'
        " positions.",
    ),
    "optimizer.schedule": Field(
        default="steps",
        choices=("constant", "steps", "cosine", "linear", "one_cycle"),
        doc='Of the learning rate: "steps" has the `lr_milestones`, "cosine" and'
        ' "linear" fall from step to step, "one_cycle" rises to it and falls, both'
        " along a cosine.",
    ),
    "optimizer.warm_up_epochs": Field(
        default=0.0,
        least=0,
        doc="Epochs, or a part of one, in which the rate rises to `learning_rate`;"
        ' with 0, "one_cycle" rises for 0.3 of the training.',
    ),
    "optimizer.warm_up_factor": Field(
        default=0.01, least=0, most=1, doc="First rate of a rise by `learning_rate`."
    ),
    "optimizer.final_factor": Field(
        default=0.0,
        least=0,
        most=1,
        doc='Rate by `learning_rate` at which "cosine", "linear" and "one_cycle" end.',
    ),
    "optimizer.clip_norm": Field(
        default=0.0,
        least=0,
        doc="Largest norm of the gradient over all parameters; longer ones are scaled"
        " down. 0 for any.",
    ),
    "optimizer.methods_factor": Field(
        default=1.0,
        least=0,
        doc="Factor on the learning rate of what methods learn beside the student.",
    ),
}

#: Every field but the hyperparameters of methods, by its dotted name.
FIELDS: dict[str, Field] = {
    "seed": Field(
        default=0,
        least=0,
        most=2**32 - 1,
        in_recipe=False,
        doc="Of all randomness: initial weights, order of the images, augmentation.",
    ),
    "replicas": Field(
        default=1,
        least=1,
        most=1024,
        in_recipe=False,
        doc="Seeds that are trained in one program, from `seed` on, each in a folder of"
        " its own below the work directory. With one `data.seed` they share each pass"
        " of the teacher.",
    ),
    "replicas_over": Field(
        default="",
        in_recipe=False,
        doc="In place of seeds, values of one field of the methods, the optimizers or"
        ' the loss, as "methods.kd.weight=0.5,1,2".',
    ),
    "model": Field(
        default="",
        doc='Network that is trained, for example "wrn_16_2"; `python -m kdjax.models`'
        " lists them.",
    ),
    "model_kwargs": Field(
        default="",
        doc='What it drops in training, as "dropout=0.3, stochastic_depth=0.1", where'
        " its family can.",
    ),
    "init.checkpoint": Field(
        default="",
        doc="Work directory of a finished run, or of an import, whose network the"
        " training starts from; empty for random weights.",
    ),
    "init.step": _STEP,
    "init.classifier": Field(
        default="keep",
        choices=("keep", "new"),
        doc='Its last layer is kept, or a "new", random one takes its place, as for'
        " other classes.",
    ),
    "task_weight": Field(
        default=1.0, least=0, doc="Weight of the cross-entropy in the loss."
    ),
    "label_smoothing": Field(
        default=0.0,
        least=0,
        below=1,
        doc="Part of the cross-entropy's target that all classes share.",
    ),
    "teacher.model": Field(default="", doc="Network of the teacher."),
    "teacher.checkpoint": Field(
        default="",
        resume_may_differ=True,
        in_recipe=False,
        doc="Work directory of the teacher's own training, or of an import.",
    ),
    "teacher.step": _STEP,
    "teacher.classes": Field(
        default="same",
        choices=("same", "any", "other"),
        resume_may_differ=True,
        in_recipe=False,
        doc='The names of its classes, where known, must be the "same" as the data'
        ' set\'s; "any" does not compare them. "other" is for other classes, in any'
        " number: only methods that do not read the teacher's logits can be used, and"
        " its accuracy is not measured.",
    ),
    "teacher.batch_norm": Field(
        default="batch",
        choices=("batch", "running"),
        doc='Teacher\'s batch norms use the statistics of each "batch" or the stored,'
        ' "running" ones.',
    ),
    "data.name": Field(
        default="",
        doc='"digits", "cifar10", "cifar100", "tiny_imagenet", "imagenet", "tfds:NAME"'
        ' or "folder".',
    ),
    "data.data_dir": Field(
        default="",
        resume_may_differ=True,
        in_recipe=False,
        doc="Folder of prepared data sets, empty for TFDS's default; or the folder of"
        " images.",
    ),
    "data.seed": Field(
        default=-1,
        least=-1,
        most=2**32 - 1,
        doc="Of the order of the images and their augmentation; -1 for `seed`.",
    ),
    "data.image_size": Field(
        default=0,
        least=0,
        most=4096,
        doc="Height and width that images are brought to: the shorter side is resized"
        " and the center cropped. 0 for images that all have one size.",
    ),
    "data.pipeline": Field(
        default="auto",
        choices=("auto", "in_memory", "streaming"),
        resume_may_differ=True,
        in_recipe=False,
        doc='Training images are kept "in_memory" on the devices or read batch by batch'
        ' ("streaming"); "auto" keeps what fits.',
    ),
    "data.workers": Field(
        default=0,
        least=0,
        most=1024,
        resume_may_differ=True,
        in_recipe=False,
        doc="Processes that read images; 0 for threads of the training process.",
    ),
    "data.bad_images": Field(
        default="error",
        choices=("error", "skip"),
        doc='Files of a folder that are no images or cannot be decoded are an "error",'
        ' or are left out ("skip") and counted.',
    ),
    "data.test_fraction": Field(
        default=0.0,
        least=0,
        below=1,
        doc="Fraction of the images that is taken for testing from a data set without a"
        " test split, stratified by class, the same in every run.",
    ),
    "data.train_fraction": Field(
        default=1.0,
        above=0,
        most=1,
        doc="Fraction of the training images that is used, stratified by class with at"
        " least one image of each, the same in every run.",
    ),
    "data.validation_fraction": Field(
        default=0.0,
        least=0,
        below=1,
        doc="Fraction of these held out for validation, stratified by class and"
        " evaluated while training; the test images are then evaluated once, at the"
        " end. 0 to evaluate on the test images while training.",
    ),
    "data.sampling": Field(
        default="uniform",
        choices=("uniform", "balanced", "square_root", "class_weights"),
        doc='Training images of an epoch: "uniform", each once; or drawn with'
        ' replacement, with the weight 1/n, n the size of its class ("balanced"),'
        ' 1/sqrt(n) ("square_root"), or that of `data.class_weights`.',
    ),
    "data.class_weights": Field(
        default=(),
        least=0,
        doc='Weight of an image of each class, for `data.sampling="class_weights"`.',
    ),
    "data.drop_remainder": Field(
        default=False, doc="Leave out the last, smaller batch of an epoch."
    ),
    "data.padding": Field(
        default=0,
        least=0,
        doc="Pixels that a training image is padded by on each side before a random"
        " crop of its own size; less than the image's height and width.",
    ),
    "data.padding_mode": Field(
        default="reflect", choices=("reflect", "zero"), doc="What the padding holds."
    ),
    "data.crop": Field(
        default="per_image",
        choices=("per_image", "per_batch", "random_resized"),
        doc="One random crop per image or per batch; or crops of random size and aspect"
        " ratio, resized to `data.image_size`.",
    ),
    "data.eval_crop": Field(
        default=1.0,
        above=0,
        most=1,
        doc="Center crop at evaluation, as a fraction of the shorter side, for example"
        " 224/256.",
    ),
    "data.flip": Field(default=False, doc="Random horizontal flips."),
    "data.augment": Field(
        default="none",
        choices=("none", "rand_augment", "trivial_augment", "fixmatch"),
        doc='Random operations on a training image: "rand_augment" applies'
        ' `data.augment_count` of them, of one magnitude, "trivial_augment" one of a'
        ' random magnitude; "fixmatch" applies `data.augment_count` of random'
        " magnitudes, and fills a random square.",
    ),
    "data.augment_count": Field(
        default=2,
        least=1,
        most=16,
        doc="Operations that RandAugment and FixMatch apply to an image.",
    ),
    "data.augment_magnitude": Field(
        default=9, least=0, most=30, doc="Magnitude in RandAugment."
    ),
    "data.color_jitter": Field(
        default=(0.0, 0.0, 0.0, 0.0),
        length=4,
        least=0,
        doc="Strength of random changes of brightness, contrast, saturation and hue, as"
        " torchvision's `ColorJitter`; the last is at most 0.5.",
    ),
    "data.second_view": Field(
        default="fixmatch",
        choices=("none", "rand_augment", "trivial_augment", "fixmatch"),
        doc="As `data.augment`, for the second view of an image, with a crop and a flip"
        " of its own, that some methods ask for.",
    ),
    "data.random_erasing": Field(
        default=0.0,
        least=0,
        most=1,
        doc="Probability that a random rectangle of an image is replaced by the mean"
        " color.",
    ),
    "data.mixup": Field(
        default=0.0,
        least=0,
        doc="Alpha of mixup, in every phase, with one lambda per batch; 0 for none.",
    ),
    "data.cutmix": Field(
        default=0.0,
        least=0,
        doc="Alpha of CutMix, in every phase, with one rectangle per batch; 0 for"
        " none.",
    ),
    "data.cutmix_probability": Field(
        default=0.5,
        above=0,
        most=1,
        doc="Part of the batches that CutMix mixes; others are left to `data.mixup`.",
    ),
    "data.mean": Field(
        default=(127.5, 127.5, 127.5),
        length=3,
        doc="Of red, green and blue, in units of the pixels 0 to 255.",
    ),
    "data.std": Field(
        default=(127.5, 127.5, 127.5),
        length=3,
        above=0,
        doc="Of red, green and blue, in units of the pixels 0 to 255; values below 1,"
        " as of pixels from 0 to 1, are refused.",
    ),
    "batch_size": Field(
        default=128,
        least=1,
        doc="Over all devices, which must divide it; with fewer training images, a"
        " batch is all of them.",
    ),
    "accumulate": Field(
        default=1,
        least=1,
        most=2**16,
        doc="Parts in which each device computes its share of a batch, one after the"
        " other, in less memory; their gradients are averaged.",
    ),
    "early_stop_epochs": Field(
        default=0,
        least=0,
        doc="Epochs after the best accuracy on the validation part with which the"
        " training ends; 0 for all `epochs`.",
    ),
    "ema_decay": Field(
        default=0.0,
        least=0,
        below=1,
        doc="Decay of a moving average of the network's weights and running statistics,"
        " which is evaluated, loaded and exported in its place; 0 for none.",
    ),
    "epochs": Field(default=200, least=1, doc="Of the training proper."),
    **_optimizer("optimizer", (0.5, 0.75)),
    **_TRAINING_OPTIMIZER,
    "pretrain.epochs": Field(
        default=40,
        least=1,
        doc="Of the phase in which some methods learn on the teacher alone, before the"
        " student starts; other methods have no such phase.",
    ),
    **_optimizer("pretrain.optimizer", ()),
    "distill_first.epochs": Field(
        default=0,
        least=0,
        doc="Of a phase with the distillation loss alone, before `epochs` of the task"
        " alone; 0 for both together in `epochs`.",
    ),
    **_optimizer("distill_first.optimizer", ()),
    "dtype": Field(
        default="float32",
        choices=("float32", "bfloat16"),
        doc="Of the networks' computation; parameters, statistics and losses are always"
        " float32.",
    ),
    "matmul_precision": Field(
        default="default",
        choices=("default", "tensorfloat32", "float32"),
        doc="Of float32 matrix products and convolutions. The hardware's default is"
        " TF32 on NVIDIA GPUs since A100 and bfloat16 on TPUs; float32 is several times"
        " slower on both. CPUs always compute in float32.",
    ),
    "deterministic": Field(
        default=False,
        in_recipe=False,
        doc="Only deterministic kernels on a GPU, so that a run resumes bitwise there"
        " too; slower. CPUs and TPUs are deterministic.",
    ),
    "batch_norm": Field(
        default="per_device",
        choices=("per_device", "synchronized"),
        doc="Statistics of a batch are taken per device or over all devices.",
    ),
    "steps_per_dispatch": Field(
        default=0,
        least=0,
        most=10_000,
        in_recipe=False,
        doc="Training steps in one program, where the data is in memory; a run stops"
        " and saves between two programs. 0 chooses: 1 on CPUs, up to 16 on GPUs and"
        " TPUs.",
    ),
    "log_every_steps": Field(
        default=100, least=1, in_recipe=False, doc="Steps between lines of the log."
    ),
    "evaluate_every_epochs": Field(
        default=1, least=1, doc="Epochs between evaluations."
    ),
    "checkpoint.every_steps": Field(
        default=0,
        least=0,
        resume_may_differ=True,
        in_recipe=False,
        doc="Steps between checkpoints, beside the one after every evaluation; 0 for"
        " none.",
    ),
    "checkpoint.keep_last": Field(
        default=2,
        least=1,
        resume_may_differ=True,
        in_recipe=False,
        doc="How many of the newest checkpoints are kept.",
    ),
    "checkpoint.keep_best": Field(
        default=1,
        least=0,
        resume_may_differ=True,
        in_recipe=False,
        doc="How many of the most accurate checkpoints are kept.",
    ),
    "checkpoint.allow_config_change": Field(
        default=False,
        resume_may_differ=True,
        in_recipe=False,
        doc="Resume a work directory that was started with another configuration.",
    ),
}

#: Groups of fields that only methods use.
OF_METHODS = ("methods", "teacher", "pretrain", "distill_first")


def default() -> ml_collections.ConfigDict:
    """Returns a configuration with every field at its default.

    The terms of the distillation loss are added under `methods`, by name, with their
    hyperparameters; without any, the network is trained alone.
    """
    config = ml_collections.ConfigDict({"methods": ml_collections.ConfigDict()})
    for path, entry in FIELDS.items():
        *groups, name = path.split(".")
        group = config
        for part in groups:
            if part not in group:
                group[part] = ml_collections.ConfigDict()
            group = group[part]
        group[name] = entry.default
    return config


def value(config: ml_collections.ConfigDict, path: str) -> Any:
    """Returns the value of a field given as "optimizer.momentum"."""
    for name in path.split("."):
        config = config[name]
    return config
