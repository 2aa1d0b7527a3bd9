"""The settings of the overhaul paper on ImageNet, end to end on a stand-in."""

import importlib
import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kdjax import teacher as teacher_lib
from kdjax import train
from kdjax.data import datasets, measure, subsets

CLASSES = 10  # Of the thousand.


def jpeg(label, rng):
    """Makes a file of the class's own gray, of any size."""
    width, height = rng.integers(40, 80, 2)
    noise = rng.integers(-20, 20, (height, width, 3))
    pixels = np.clip(25 * label + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepares a set of ImageNet's name and layout, forty and twenty images."""
    tfds.disable_progress_bar()
    rng = np.random.default_rng(0)

    class Imagenet2012(tfds.builder_cls("imagenet2012"), skip_registration=True):
        def _split_generators(self, dl_manager):
            numbers = {"train": 40, "validation": 20, "test": 5}
            return {split: self._some(n, split) for split, n in numbers.items()}

        def _some(self, number, split):
            for k in range(number):
                label = k % CLASSES
                yield (
                    f"{split}_{k}",
                    {
                        "image": jpeg(label, rng),
                        "label": -1 if split == "test" else label,
                        "file_name": f"{split}_{k}.JPEG",
                    },
                )

    data_dir = tmp_path_factory.mktemp("sets")
    Imagenet2012(data_dir=data_dir, file_format="array_record").download_and_prepare(
        download_dir=tmp_path_factory.mktemp("downloads")
    )
    return data_dir


def small(config, data_dir, **fields):
    """Keeps the recipe but for sizes."""
    config.data.data_dir = str(data_dir)
    config.data.image_size, config.data.workers = 32, 0
    config.batch_size, config.epochs = 8, 1
    config.optimizer.learning_rate = 0.02
    config.update_from_flattened_dict(fields)
    return config


def get_config(name, argument):
    return importlib.import_module(f"configs.{name}").get_config(argument)


def test_the_set_has_its_validation_split_as_test(data_dir):
    config = get_config("student", "resnet50@224,imagenet").data
    config.data_dir, config.image_size = str(data_dir), 32
    description = datasets.describe(config)
    assert description[:3] == (1000, (32, 32, 3), 1_331_167)
    assert description.class_names[::999] == ("n01440764", "n15075141")
    data = datasets.load(config)
    assert (data.train.num_examples, data.test.num_examples) == (40, 20)
    assert set(data.test.label) == set(range(CLASSES))


def test_a_stratified_part_is_taken_of_what_is_stored(data_dir):
    config = get_config("student", "resnet50@224,imagenet").data
    config.name, config.image_size = "tfds:imagenet2012", 32
    config.data_dir = str(data_dir)
    split = datasets.load(config).train
    part, left = subsets.hold_out(split, 0.5, range(CLASSES))
    np.testing.assert_array_equal(np.bincount(part.label), [2] * CLASSES)
    np.testing.assert_array_equal(part.label, split.label[part.indices])
    assert sorted([*part.indices, *left.indices]) == list(range(40))


def distill(teacher, student, data_dir, tmp_path, **fields):
    """Trains a teacher and a student with it; returns the student's result."""
    config = get_config("teacher", f"{teacher},imagenet")
    config = small(config, data_dir, **{"epochs": 12, **fields})
    train.train_and_evaluate(config, tmp_path / "teacher")
    config = get_config("overhaul", f"{teacher}-{student},imagenet")
    config = small(config, data_dir, **fields)
    config.teacher.checkpoint = str(tmp_path / "teacher")
    return train.train_and_evaluate(config, tmp_path / "student")


def test_the_recipe_runs_end_to_end(data_dir, tmp_path, monkeypatch):
    """On so few images that any network may teach."""
    monkeypatch.setattr(teacher_lib, "check_above_chance", lambda *_: None)
    result = distill("wrn_10_1", "wrn_10_1", data_dir, tmp_path)
    assert result["images"] == {"train": 40, "test": 20}
    assert result["final_step"] == 5
    lines = (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(lines[-1])["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teacher", "student"),
    [("resnet152@224", "resnet50@224"), ("resnet50@224", "mobilenet@224")],
)
def test_the_pairs_of_the_paper_run_end_to_end(
    teacher, student, data_dir, tmp_path, monkeypatch
):
    """A few steps teach such networks nothing, and so may any network teach."""
    monkeypatch.setattr(teacher_lib, "check_above_chance", lambda *_: None)
    found = distill(
        teacher,
        student,
        data_dir,
        tmp_path,
        **{
            "data.image_size": 64,
            # Maps of 2x2 of the two images of a device are too few for their norms.
            "batch_norm": "synchronized",
            "optimizer.learning_rate": 1e-3,
            "epochs": 1,
        },
    )
    assert found["final_step"] == 5


def test_stored_images_are_measured(data_dir):
    config = get_config("student", "resnet50@224,imagenet").data
    config.data_dir, config.image_size = str(data_dir), 32
    mean, _ = measure.measure(datasets.load(config).train)
    np.testing.assert_allclose(mean, 25 * np.mean(np.arange(CLASSES)), atol=4)
