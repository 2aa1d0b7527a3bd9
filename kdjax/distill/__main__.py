"""Prints what methods there are, or which pairs of networks they can join.

    python -m kdjax.distill
    python -m kdjax.distill --matrix
    python -m kdjax.distill --markdown > docs/methods.md

The first is the table of the overhaul paper, L = d(T_t(F_t), T_s(F_s)), method by
method, with the phases of a training, what is learned besides the student (parameters,
for WRN-40-2 to WRN-16-2) and which examples a value depends on. The second tries every
method on every pair of the published tables, as its defaults have it: "yes", or why it
cannot. The third makes a page of both.
"""

import argparse
import inspect
import sys
from collections.abc import Sequence

import jax
import tabulate

from kdjax import distill
from kdjax.distill import compatibility

#: The pairs of published tables: RepDistiller's, of OFD (a to f), of MHGD.
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
)

#: What the trial is on: CIFAR-100.
_CLASSES, _IMAGE, _EXAMPLES = 100, (32, 32, 3), 50_000

#: For methods that have no default for it.
REQUIRED = {"mutual_learning": {"peer": "wrn_16_2"}}


def build(name: str) -> distill.Method:
    """Builds a method as its defaults have it."""
    settings = {name: REQUIRED.get(name, {})}
    return distill.build(settings, num_classes=_CLASSES, num_examples=_EXAMPLES)[name]


def refusal(method: distill.Method, pair: str) -> str | None:
    """Says why a method cannot join the networks "teacher-student"; None if it can."""
    teacher, student = pair.split("-")
    try:
        compatibility.check(
            {method.name: method},
            teacher=teacher,
            student=student,
            num_classes=_CLASSES,
            image_shape=_IMAGE,
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
    return {
        "method": name,
        **{
            column.replace("_", " "): value
            for column, value in method.taxonomy._asdict().items()
        },
        "phases": "pretrain, train" if method.pretrains else "train",
        "learned": f"{_learned(method):,}",
        "a value depends on": method.depends_on,
        "source": " ".join(source.split()),
    }


def _learned(method: distill.Method, pair: str = PAIRS[0]) -> int:
    """Counts the parameters that a method learns beside the student's."""
    teacher, student = (
        compatibility.outputs(name, _CLASSES, _IMAGE) for name in pair.split("-")
    )
    inits = [lambda key: method.init(key, student, teacher)]
    if method.pretrains:
        inits.append(lambda key: method.pretrain_init(key, teacher))
    made = [jax.eval_shape(init, jax.random.key(0)).get("params", {}) for init in inits]
    return sum(leaf.size for leaf in jax.tree.leaves(made))


def matrix() -> list[dict[str, str]]:
    """Returns a row for each pair: its names, and by method "yes" or why not."""
    methods = {name: build(name) for name in sorted(distill.METHODS)}
    return [
        {"teacher-student": pair}
        | {name: refusal(method, pair) or "yes" for name, method in methods.items()}
        for pair in PAIRS
    ]


def _matrix_text(form: str) -> str:
    """Writes the matrix with the reasons as notes below it."""
    notes: dict[str, int] = {}

    def cell(answer: str) -> str:
        if answer == "yes":
            return answer
        return f"no [{notes.setdefault(answer, len(notes) + 1)}]"

    rows = [
        {key: x if key == "teacher-student" else cell(x) for key, x in row.items()}
        for row in matrix()
    ]
    lines = [tabulate.tabulate(rows, headers="keys", tablefmt=form), ""]
    lines += [f"[{number}] {reason}" for reason, number in notes.items()]
    return "\n".join(lines).rstrip()


def page() -> str:
    """Returns both tables as a page in Markdown."""
    # A bar would end the cell.
    rows = [
        {column: value.replace("|", "\\|") for column, value in row.items()}
        for row in taxonomy()
    ]
    taxonomy_text = tabulate.tabulate(rows, headers="keys", tablefmt="github")
    return (
        "# Methods\n\nMade by `python -m kdjax.distill --markdown`, from the code.\n\n"
        f"## Taxonomy\n\nL = d(T_t(F_t), T_s(F_s))\n\n{taxonomy_text}\n\n"
        f"## Methods and pairs\n\n{_matrix_text('github')}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="distill", description="Prints what distillation methods there are."
    )
    add = parser.add_mutually_exclusive_group().add_argument
    add("--matrix", action="store_true", help="try every method on every pair")
    add("--markdown", action="store_true", help="print a page of both for Markdown")
    args = parser.parse_args(argv)
    if args.markdown:
        print(page())
    elif args.matrix:
        print(_matrix_text("simple"))
    else:
        widths = [None, *[26] * 5, None, None, 10, 40]
        print(tabulate.tabulate(taxonomy(), headers="keys", maxcolwidths=widths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
