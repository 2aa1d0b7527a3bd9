"""What tests of finished runs share, each of which trains one for a few steps."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kdjax import models, recipes, train
from kdjax import teacher as teacher_lib
from kdjax.data.sources import digits
from kdjax.data.split import Split
from kdjax.runs import workdirs
from kdjax.runs.checkpoint import Checkpoints

#: Of an epoch of `distill`.
STEPS = 3

#: What `result.json` of a finished run holds at least.
RESULT = {
    "final_test_accuracy": 0.5,
    "final_step": 7,
    "best_step": 7,
    "best_test_accuracy": 0.5,
}


@contextlib.contextmanager
def shortcuts():
    """Tests on fewer images and lets any teacher teach."""
    splits = digits.load()
    few = splits | {"test": Split(*(part[:96] for part in splits["test"]))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", lambda: few)
        patch.setattr(teacher_lib, "check_above_chance", lambda *_: None)
        yield patch


def distill(teacher, workdir, epochs=1):
    """Finishes a run on the digits; its teacher is random and normalizes otherwise.

    Args:
      teacher: folder that becomes the teacher's work directory.
      workdir: folder that becomes the run's.
      epochs: of STEPS steps each.
    """
    write_teacher(teacher)
    config = recipes.distillation("resnet8-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = str(teacher)
    config.data.mean = (70.0, 80.0, 90.0)
    config.epochs = config.evaluate_every_epochs = epochs
    result = train.train_and_evaluate(config, workdir)
    assert result["final_step"] == epochs * STEPS


def write_teacher(workdir, num_classes=10):
    """Writes a finished run of a random resnet8, which normalizes otherwise."""
    alone = recipes.alone("resnet8,digits")
    alone.data.mean, alone.data.std = (10.0, 20.0, 30.0), (40.0, 50.0, 60.0)
    workdirs.create(workdir, alone)
    network = models.build("resnet8", num_classes)
    image = jnp.zeros((1, 8, 8, 3))
    made = jax.jit(lambda key: network.init(key, image, train=False))(jax.random.key(1))
    with Checkpoints(workdir) as checkpoints:
        state = {name: {"student": tree} for name, tree in made.items()}
        checkpoints.save(7, state | {"step": np.int32(7)}, {})
    workdirs.write_result(workdir, RESULT)


def set_fields(workdir, section, **values):
    """Changes fields in the `config.json` of a run."""
    file = workdir / "config.json"
    config = json.loads(file.read_text())
    config[section] |= values
    file.write_text(json.dumps(config))


def write_images(folder, classes, splits, size=(8, 8)):
    """Writes a folder of images, of another color for each class.

    Args:
      folder: to be made.
      classes: their names.
      splits: number of images of each class by the name of the split, "" for none.
      size: width and height.
    """
    for split, count in splits.items():
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                color = (20 * number, 100, 10 * index)
                image = Image.new("RGB", size, color)
                image.save(folder / split / name / f"{index}.png")
