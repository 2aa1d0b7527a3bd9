"""Prints what methods there are, or which pairs of networks they cannot join.

    python -m kdjax.distill
    python -m kdjax.distill --matrix

The first lists the methods with their short names, what they compare and by which
distance (L = d(T_t(F_t), T_s(F_s)), the form of the overhaul paper), and for WRN-40-2
to WRN-16-2 how many auxiliary parameters they train, and how many they add to the
student for good. The second tries every method
on every pair of the published tables with its default hyperparameters, and lists those
that it rejects and why. docs/methods.md has more, and the published figures.
"""

import argparse
import inspect
import textwrap
from collections.abc import Sequence

import jax
import tabulate

from kdjax import distill, models
from kdjax.cli import command_line
from kdjax.distill import compatibility, heads, shapes
from kdjax.models import cost

#: The pairs of published tables: RepDistiller's, of OFD (a to f), of MHGD; and some of
#: vision transformers and ConvNeXts.
PAIRS = (
    "wrn_40_2-wrn_16_2",
    "wrn_40_2-wrn_40_1",
    "resnet56-resnet20",
    "resnet110-resnet20",
    "resnet110-resnet32",
    "resnet32x4-resnet8x4",
    "vgg13-vgg8",
    "vgg13-mobilenet_v2",
    "resnet50-mobilenet_v2",
    "resnet50-vgg8",
    "resnet32x4-shufflenet_v1",
    "resnet32x4-shufflenet_v2",
    "wrn_40_2-shufflenet_v1",
    "wrn_28_4-wrn_16_4",
    "wrn_28_4-wrn_28_2",
    "wrn_28_4-wrn_16_2",
    "wrn_28_4-resnet56",
    "pyramidnet_200_240-wrn_28_4",
    "pyramidnet_200_240-pyramidnet_110_84",
    "mhgd_vgg16-mhgd_vgg7",
    "wrn_22_4-wrn_10_4",
    "wrn_22_4-mhgd_vgg_strided",
    "wrn_22_4-mhgd_mobilenet",
    "wrn_22_4-mhgd_resnet",
    "wrn_28_4-deit_tiny",
    "wrn_28_4-deit_tiny_distilled",
    "deit_small-resnet8x4",
    "convnext_tiny-mobilenet_v2",
)

#: Methods are tried on CIFAR-100.
_CLASSES, _IMAGE, _EXAMPLES = 100, (32, 32, 3), 50_000

#: Hyperparameters without a usable default.
REQUIRED = {"mutual_learning": {"peer": "wrn_16_2"}}


def build(name: str) -> distill.Method:
    """Builds a method with its defaults."""
    settings = {name: REQUIRED.get(name, {})}
    return distill.build(settings, num_classes=_CLASSES, num_examples=_EXAMPLES)[name]


def refusal(method: distill.Method, pair: str) -> str | None:
    """Returns why a method cannot join "teacher-student"; None if it can."""
    teacher, student = (
        compatibility.Named(name, models.build(name, _CLASSES))
        for name in pair.split("-")
    )
    try:
        compatibility.check(
            {method.name: method}, teacher=teacher, student=student, image_shape=_IMAGE
        )
    except ValueError as error:
        return str(error)
    return None


def taxonomy() -> list[dict[str, str]]:
    """Returns a row for each method."""
    return [_row(name) for name in sorted(distill.METHODS)]


def _row(name: str) -> dict[str, str]:
    method = build(name)
    source, _, _ = inspect.getdoc(inspect.getmodule(type(method))).partition("\n\n")
    short = sorted(k for k, v in distill.ALIASES.items() if v == name)
    return {
        "method": name,
        "short": ", ".join(short),
        **{
            column.replace("_", " "): value
            for column, value in method.taxonomy._asdict().items()
        },
        "phases": "pretrain, train" if method.pretrains else "train",
        "auxiliary parameters": f"{_auxiliary_parameters(method):,}",
        "kept parameters": f"{_kept_parameters(method):,}",
        "a value depends on": method.depends_on,
        "source": " ".join(source.split()),
    }


def _auxiliary_parameters(method: distill.Method, pair: str = PAIRS[0]) -> int:
    """Counts the parameters that a method trains in addition to the student's."""
    teacher, network = (models.build(name, _CLASSES) for name in pair.split("-"))
    network = heads.with_head(network, {method.name: method}, _IMAGE, teacher)
    teacher, student = (shapes.outputs(x, _IMAGE) for x in (teacher, network))
    inits = [lambda key: method.init(key, student, teacher)]
    if method.pretrains:
        inits.append(lambda key: method.pretrain_init(key, teacher))
    made = [jax.eval_shape(init, jax.random.key(0)).get("params", {}) for init in inits]
    return sum(leaf.size for leaf in jax.tree.leaves(made))


def _kept_parameters(method: distill.Method, pair: str = PAIRS[0]) -> int:
    """Counts the parameters that a method adds to the student, also at inference."""
    teacher, plain = (models.build(name, _CLASSES) for name in pair.split("-"))
    network = heads.with_head(plain, {method.name: method}, _IMAGE, teacher)
    with_head, without = (cost.of(x, _IMAGE).parameters for x in (network, plain))
    return with_head - without


def summary() -> str:
    """Returns the table of methods for a terminal of 100 columns."""
    widths = {
        "method": 22,
        "short": 12,
        "position": 16,
        "distance": 16,
        "auxiliary parameters": 10,
        "kept parameters": 10,
    }
    rows = [
        {column: textwrap.fill(row[column], width) for column, width in widths.items()}
        for row in taxonomy()
    ]
    return tabulate.tabulate(
        [[*row.values()] for row in rows],
        headers=[textwrap.fill(column, width) for column, width in widths.items()],
        colalign=(*["left"] * 4, "right", "right"),
        disable_numparse=True,
    )


def rejections() -> dict[tuple[str, str], str]:
    """Returns why methods cannot join pairs, by the names of both."""
    methods = {name: build(name) for name in sorted(distill.METHODS)}
    found = {}
    for pair in PAIRS:
        for name, method in methods.items():
            if reason := refusal(method, pair):
                found[name, pair] = reason
    return found


def _matrix() -> str:
    tried = f"{len(distill.METHODS)} methods on {len(PAIRS)} pairs"
    pairs: dict[tuple[str, str], list[str]] = {}
    for (name, pair), reason in rejections().items():
        pairs.setdefault((name, reason), []).append(pair)
    exceptions = [
        f"{name} cannot join {', '.join(found)}: {reason}"
        for (name, reason), found in pairs.items()
    ]
    return "\n".join(
        [
            f"{tried}: all can be trained, except {sum(map(len, pairs.values()))}.",
            *(textwrap.fill(line, 100) for line in exceptions),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.distill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--matrix", action="store_true", help="try every method on every pair"
    )
    args = parser.parse_args(argv)
    print(_matrix() if args.matrix else summary())
    return 0


if __name__ == "__main__":
    command_line.run(main)
