"""Damages to each JSON file of a run are one line that names the file and the key."""

import json

import pytest

from kdjax import recipes
from kdjax.runs import inventory, lock, manifest, workdirs

#: Contents that no run writes, whatever the file.
DAMAGES = {
    "empty": b"",
    "truncated": b'{"a": ',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "nested": b'{"a": ' + b"[" * 100_000,
    "null": b"null",
    "a list": b"[1, 2]",
    "a text": b'"a"',
    "a number": b"3",
    "zeros": b"\0" * 64,
}

#: Values of another type than every kind of a schema, and of any.
OTHERS = {str: 3, int: "3", dict: [1], list: {"a": 1}}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", workdirs.SCHEMA)
def test_a_damaged_file_is_named(tmp_path, name, damage):
    (tmp_path / name).write_bytes(DAMAGES[damage])
    with pytest.raises(ValueError, match=f"{name} is damaged: ") as error:
        workdirs.read_json(tmp_path / name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name, keys in workdirs.SCHEMA.items() for key in keys],
)
def test_a_value_of_another_type_is_named(tmp_path, name, key):
    other = OTHERS[workdirs.SCHEMA[name][key]]
    (tmp_path / name).write_text(json.dumps({key: other}))
    with pytest.raises(ValueError, match=f"{name} is damaged: {key}=") as error:
        workdirs.read_json(tmp_path / name)
    assert str(error.value).isprintable()


def test_an_undamaged_file_is_read(tmp_path):
    config = recipes.alone("resnet8,digits")
    workdirs.create(tmp_path, config)
    assert workdirs.read_config(tmp_path) == workdirs.as_json(config)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_metrics_or_lock_is_no_traceback(tmp_path, damage):
    step = tmp_path / "3"
    (step / "metrics").mkdir(parents=True)
    for file in (step / "files.json", step / "metrics" / "metrics"):
        file.write_bytes(DAMAGES[damage])
    assert manifest.verify(step).startswith("files.json ")
    assert inventory.Inventory(tmp_path).accuracy(3) is None
    (tmp_path / lock.HOLDER).write_bytes(DAMAGES[damage])
    assert lock._holder(tmp_path) == "another process"


def test_folders_with_strange_names_are_no_checkpoints(tmp_path):
    for name in ("7", "007", "\u0667", "\u00b2", "9" * 30, "8.damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").touch()
    assert inventory.Inventory(tmp_path).steps() == [7]
