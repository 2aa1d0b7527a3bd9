"""What a run reads is compared when it is resumed."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kdjax import recipes, train
from kdjax.data import datasets
from kdjax.data.sources import folder_layout
from kdjax.runs import inputs


@pytest.fixture
def folder(tmp_path):
    """A folder of three classes, whose images differ in size on disk."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for name in ("ants", "bees", "wasps"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 256, (4 + k, 4, 3), np.uint8)
                Image.fromarray(image).save(
                    tmp_path / "data" / split / name / f"{name}{k}.png"
                )
    return tmp_path / "data"


@pytest.fixture
def config(folder):
    config = recipes.alone("wrn_10_1,digits")
    config.data.name, config.data.data_dir = "folder", str(folder)
    config.data.image_size = 8
    return config


def read_now(config):
    return inputs.of_data(config.data, datasets.describe(config.data))


@pytest.fixture
def run(config, tmp_path):
    """A work directory that knows what was read."""
    (tmp_path / "run").mkdir()
    inputs.write(tmp_path / "run", read_now(config))
    return tmp_path / "run"


def test_the_same_images_may_lie_elsewhere(run, config, folder, tmp_path):
    folder.rename(tmp_path / "moved")
    config.data.data_dir = str(tmp_path / "moved")
    inputs.check(run, config, read_now(config))


def rename_a_class(folder):
    for split in ("train", "val"):
        (folder / split / "bees").rename(folder / split / "zebras")


def move_an_image(folder):
    (folder / "train/ants/ants0.png").rename(folder / "train/bees/ants0.png")


def change_an_image(folder):
    file = folder / "train/ants/ants0.png"
    Image.open(file).resize((9, 9)).save(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_a_class, r"class 1 was 'bees' and is 'wasps'"),
        (move_an_image, r"the train images were 9 files, \w+ and are 9 files, "),
        (change_an_image, r"the train images were 9 files, \w+ and are 9 files, "),
    ],
)
def test_other_images_and_classes_are_refused(run, config, folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=f"started with other inputs: {message}"):
        inputs.check(run, config, read_now(config))
    config.checkpoint.allow_config_change = True
    inputs.check(run, config, read_now(config))


def test_another_teacher_is_refused(tmp_path, config):
    config.teacher.checkpoint = "runs/teacher"
    weights = {"params": {"a": jnp.arange(3.0), "b": jnp.zeros(2)}}
    inputs.write(tmp_path, inputs.of_teacher(weights))
    inputs.check(tmp_path, config, inputs.of_teacher(weights))
    for other in ({"a": jnp.arange(3.0), "b": jnp.ones(2)}, {"b": jnp.zeros(2)}):
        with pytest.raises(
            ValueError, match=r"teacher\.checkpoint='runs/teacher' has other weights"
        ):
            inputs.check(tmp_path, config, inputs.of_teacher({"params": other}))


def test_a_run_without_the_file_is_not_checked(tmp_path, config):
    inputs.check(tmp_path, config, read_now(config))


def test_a_training_lists_its_folder_once(config, tmp_path, monkeypatch):
    """It is slow with millions of files, and they might change in between."""
    listed = []

    def list_layout(*arguments):
        listed.append(arguments)
        return original(*arguments)

    original = folder_layout.list_layout
    monkeypatch.setattr(folder_layout, "list_layout", list_layout)
    monkeypatch.setattr(train, "run_phases", lambda *_: None)  # As if stopped.
    config.batch_size, config.data.train_fraction = 4, 1.0
    config.data.drop_remainder = True
    for pipeline in ("in_memory", "streaming"):
        config.data.pipeline = pipeline
        assert train.train_and_evaluate(config, tmp_path / pipeline) is None
        assert len(listed) == 1
        listed.clear()
