"""Prints a table of the networks: what each costs and what distillation sees of it.

    python -m kdjax.models [NAME ...] [--classes=K]

Without names, those of the published tables. Multiply-adds are for one image of the
size that the network is made for. Features are written channels@size: the stem, the
stages, the pooled vector; margins come from batch norms, or are measured.
"""

import argparse
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import tabulate

from kdjax import models
from kdjax.models import cost

#: Classes of the data set that images of a size come from: CIFAR-100, Tiny ImageNet,
#: ImageNet.
_CLASSES = {32: 100, 64: 200, 224: 1000}


def row(name: str, classes: int | None = None) -> dict[str, object]:
    """Describes one network, without computing anything with it.

    Args:
      name: for `models.build`.
      classes: size of the logits; None for that of the usual data set.

    Raises:
      ValueError: if there is no such network.
    """
    size = models.image_size(name) or 32
    network = models.build(name, classes or _CLASSES[size])
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    (logits, features), variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False), image
    )
    stages = (features.stem, *features.post)
    try:
        network.margin_batch_norms()
        margins = "batch norms"
    except ValueError:
        margins = "measured"
    return {
        "network": name,
        "image": size,
        "classes": logits.shape[1],
        "parameters": f"{cost.parameters(variables):,}",
        "multiply-adds": f"{cost.multiply_adds(network, (size, size, 3)):,}",
        "features": " ".join(
            [f"{x.shape[-1]}@{x.shape[1]}" for x in stages]
            + [str(features.pooled.shape[-1])]
        ),
        "margins": margins,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, 2 where the user erred."""
    parser = argparse.ArgumentParser(
        prog="models", description="Prints a table of the networks."
    )
    parser.add_argument("names", nargs="*", help="networks; else the published ones")
    parser.add_argument("--classes", type=int, help="else those of the usual data set")
    args = parser.parse_args(argv)
    try:
        rows = [row(name, args.classes) for name in args.names or models.STANDARD]
    except ValueError as error:
        print("models:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(
        tabulate.tabulate(rows, headers="keys", stralign="left", disable_numparse=True)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
