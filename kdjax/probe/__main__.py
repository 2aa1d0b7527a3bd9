"""Measures how well frozen features classify the images of another data set.

    python -m kdjax.probe --workdir=runs/student --data=cifar10
    python -m kdjax.probe --workdir=runs/student --data=tfds:stl10 --image_size=32
    python -m kdjax.probe --workdir=runs/student --data=folder --data_dir=DIR

The network of the run stays as it is. A linear classifier learns on its pooled
features of the training images of the other data set, and its accuracy on the test
images is printed, as in the tables of representation transfer of CRD (Tian et al.,
ICLR 2020).

The protocol: the pooled features before the network's own classifier, with the running
statistics of batch norms and in float32; images are not augmented, have the size of
those of the run where they can be resized, and are normalized as those of the run.
Features are standardized by the training images. The classifier is a multinomial
logistic regression that L-BFGS minimizes to the end, so that there is no learning rate
and no number of epochs: the mean cross-entropy plus penalty / 2 times the sum of the
squared weights. The penalty, a power of ten from 1e-5 to 10, is the one with the best
accuracy on a fifth of the training images; the classifier then learns on all of them.
The test images are read once. CRD trains its classifier by SGD: compare networks that
were probed by the same command.
"""

import argparse
import math
from collections.abc import Sequence

import ml_collections
import numpy as np

from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.config import fields
from kdjax.data import datasets
from kdjax.evaluate import outputs
from kdjax.probe import linear
from kdjax.runs import console, inventory, run_data, trained


def probe(flags: argparse.Namespace) -> str:
    """Probes as the flags say; returns the text to print.

    Raises:
      ValueError: in one line, if there is no trained network, or the images cannot be
        used.
      OSError: if there are no images.
    """
    if flags.penalty is not None and not 0 < flags.penalty < math.inf:
        raise ValueError(f"--penalty={flags.penalty} is not positive")
    if not 0 < flags.train_fraction <= 1:
        raise ValueError(f"--train_fraction={flags.train_fraction} is not in (0, 1]")
    for name in ("batch_size", "image_size"):
        value = getattr(flags, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}={value} is less than 1")
    run = trained.load(flags.workdir, step=flags.step)
    config = _data(flags, run)
    data = datasets.load(config)
    settings = {
        "batch_size": flags.batch_size or run.config["batch_size"],
        "name": f"workdir={str(flags.workdir)!r}",
    }
    (train, train_label), (test, test_label) = (
        outputs.compute(
            run,
            split,
            config,
            read=lambda x: x.features.pooled,
            what="features",
            **settings,
        )
        for split in (data.train, data.test)
    )
    chosen, scores = flags.penalty, {}
    if chosen is None:
        scores = linear.choose_penalty(train, train_label)
        chosen = next(iter(scores))
    classifier = linear.fit(train, train_label, chosen)
    return _text(flags, run, classifier, scores, (train, train_label, test, test_label))


def _data(
    flags: argparse.Namespace, run: trained.TrainedModel
) -> ml_collections.ConfigDict:
    """Returns the `data` part of a configuration for the other data set."""
    config = fields.default().data
    config.name = flags.data
    config.data_dir = flags.data_dir or ""
    config.train_fraction = flags.train_fraction
    config.pipeline = "streaming"  # Every image is read once.
    config.image_size = flags.image_size or 0
    if flags.image_size is None and flags.data not in datasets.OF_ONE_SIZE:
        own = run_data.find(flags.workdir, run)
        height, width, _ = own.image_shape()
        if height != width:
            raise ValueError(
                f"the images of the run are {height}x{width}: --image_size says which"
                " square the others are brought to"
            )
        config.image_size = height
    return config


def _text(
    flags: argparse.Namespace,
    run: trained.TrainedModel,
    classifier: linear.Classifier,
    scores: dict[float, float],
    images: tuple[np.ndarray, ...],
) -> str:
    train, train_label, test, test_label = images
    train_accuracy, accuracy = (
        100 * float(np.mean(classifier.predict(feature) == label))
        for feature, label in ((train, train_label), (test, test_label))
    )
    count, width = train.shape
    classes = len(classifier.bias)
    most = 100 * float(np.bincount(test_label).max() / len(test_label))
    where = escaped(str(flags.workdir))
    held_out = [
        f"held-out accuracy   {100 * score:.2f}%"
        for penalty, score in scores.items()
        if penalty == classifier.penalty
    ]
    lines = [
        f"{where}: the {run.config['model']} after step {run.step} on {flags.data}",
        "",
        f"{width} pooled features, {classes} classes, {count:,} training and "
        f"{len(test_label):,} test images",
        f"penalty             {classifier.penalty:g}",
        *held_out,
        f"training accuracy   {train_accuracy:.2f}%",
        f"test accuracy       {accuracy:.2f}%",
        f"most frequent class {most:.2f}%",
    ]
    if scores and classifier.penalty in (linear.PENALTIES[0], linear.PENALTIES[-1]):
        lines += ["", "the chosen penalty is at the end of those that were tried"]
    if not classifier.converged:
        lines += ["", "L-BFGS stopped before the minimum"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--workdir", type=home.argument, required=True, help="work directory of the run"
    )
    add("--step", default=inventory.LAST, help="last, best or a number; default: last")
    add(
        "--data",
        required=True,
        help=f"the other data set: {', '.join(datasets.NAMES)}",
    )
    add("--data_dir", help="where it is prepared, or the folder of images")
    add("--image_size", type=int, help="default: that of the run's images")
    add(
        "--train_fraction",
        type=float,
        default=1.0,
        help="of its training images, stratified; default: all",
    )
    add("--penalty", type=float, help="default: the best on held-out images")
    add("--batch_size", type=int, help="images at once; default: that of the run")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after an error of the user."""
    flags = _parser().parse_args(arguments)
    try:
        print(probe(flags))
    except (ValueError, OSError) as error:
        console.print_error("probe", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
