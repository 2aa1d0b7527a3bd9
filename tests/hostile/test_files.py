"""Damages to each JSON file of a run are one line that names the file and the key."""

import json

import pytest

from experiments import records
from kdjax import recipes
from kdjax.runs import inventory, json_files, lock, manifest, workdirs, writers
from kdjax.runs.checkpoint import Checkpoints
from tests import small_runs
from tests.hostile import files

_EVALUATION = {"step": 3, "accuracy": 0.5}

#: What the files hold, with every key of their schemas.
EXAMPLES = {
    "config.json": workdirs.as_json(
        recipes.distillation("wrn_10_1-wrn_10_1,digits", {"kd": {}})
    ),
    "result.json": {
        **small_runs.RESULT,
        "best_validation_accuracy": 0.5,
        "teacher_test_accuracy": None,
        "wall_s": 1,
        "images_per_s": 2.5,
        "images": {"train": 96},
        "parameters": {},
        "phases": {"train": {}},
        "versions": {"jax": "0.1"},
        "config": workdirs.as_json(recipes.alone("wrn_10_1,digits")),
    },
    "inputs.json": {"class_names": ["0"], "images": {"train": "a"}, "teacher": None},
    "metrics.jsonl": {"step": 3, "epoch": 1.0, "split": "train", "loss": 0.5},
    "files.json": {"state/a": {"bytes": 3, "crc32": 4}},
    "metadata/metadata": {
        "step": 3,
        "wall_s": 1.5,
        "ended_early": False,
        "images": {"train": 96},
        "config": {},
        "versions": {"jax": "0.1"},
        "log": {
            "means": {"totals": {"loss": 0.5}, "count": 3},
            "evaluations": {"test": {"best": _EVALUATION, "last": _EVALUATION}},
        },
    },
    "metrics/metrics": {"accuracy": 0.5, "test_accuracy": 0.5},
    lock.HOLDER: {"pid": 3, "host": "here"},
}


def damages(name):
    content = json.dumps(EXAMPLES[name]).encode()
    found = list(files.damages(files.SCHEMAS[name], content))
    return [damage for damage in found if damage.content is not None]


def test_every_schema_has_an_example_of_all_its_keys():
    assert EXAMPLES.keys() == files.SCHEMAS.keys()
    for name, schema in files.SCHEMAS.items():
        json_files.check(EXAMPLES[name], schema)
        missing = [
            key
            for key in schema
            if key != "*"
            if key.removesuffix("?") not in EXAMPLES[name]
        ]
        assert not missing, name
        assert len(damages(name)) >= len(files.CONTENTS) - 1 + len(schema)


def test_true_is_no_number_and_a_number_not_infinite():
    for value in ("true", "1e999", "NaN", "null", '"1"'):
        with pytest.raises(ValueError, match="a="):
            json_files.parse(f'{{"a": {value}}}', {"a": float})
    assert json_files.parse('{"a": 1}', {"a": float}) == {"a": 1}
    with pytest.raises(ValueError, match="a=True is not an integer"):
        json_files.parse('{"a": true}', {"a": int})


@pytest.mark.parametrize("name", files.SCHEMAS)
def test_a_damage_is_one_line_that_names_file_and_key(tmp_path, name):
    path = tmp_path / name.replace("/", "_")
    for damage in damages(name):
        path.write_bytes(damage.content)
        with pytest.raises(ValueError, match="is damaged: ") as error:
            json_files.read(path, files.SCHEMAS[name])
        message = str(error.value)
        assert message.startswith(f"{path} is damaged: {damage.key or ''}"), damage
        assert message.isprintable(), damage
        assert len(message) < len(str(path)) + 400, damage
    path.unlink()
    assert json_files.read(path, files.SCHEMAS[name]) is None


def test_damaged_metrics_are_left_out_and_counted(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps(EXAMPLES["metrics.jsonl"]).encode() + b"\n"
    for damage in damages("metrics.jsonl"):
        path.write_bytes(line + damage.content + b"\n" + line + line[:9])
        assert writers.read(path) == [EXAMPLES["metrics.jsonl"]] * 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"kdjax: warning: {path}: left out 1 damaged lines; ")
    path.write_bytes(line + line[:9])
    assert len(writers.read(path)) == 1
    assert capsys.readouterr().err == ""


def test_damaged_files_of_a_checkpoint_are_a_reason_to_skip_it(tmp_path):
    step = tmp_path / "checkpoints" / "3"
    for folder in ("state", "metadata", "metrics"):
        (step / folder).mkdir(parents=True)
    for damage in damages("metadata/metadata"):
        (step / "metadata" / "metadata").write_bytes(damage.content)
        with pytest.raises(ValueError, match=r"step 3: metadata is damaged: "):
            Checkpoints(tmp_path).read_metadata()
    for damage in damages("metrics/metrics"):
        (step / "metrics" / "metrics").write_bytes(damage.content)
        assert inventory.Inventory(step.parent).accuracy(3) is None
    for damage in damages("files.json"):
        (step / "files.json").write_bytes(damage.content)
        assert manifest.verify(step).startswith("files.json is damaged: ")


def test_a_damaged_holder_of_a_lock_has_no_name(tmp_path):
    for damage in damages(lock.HOLDER):
        (tmp_path / lock.HOLDER).write_bytes(damage.content)
        assert lock._holder(tmp_path) == "another process"


def test_damaged_runs_and_lines_are_left_out_of_a_report(tmp_path):
    run, packed = tmp_path / "run", tmp_path / "packed"
    run.mkdir()
    packed.mkdir()
    record = {"name": "a", "config": EXAMPLES["config.json"], "result": None}
    record = json.dumps(record | {"metrics": {}}).encode()
    for damage in damages("config.json"):
        (run / "config.json").write_bytes(damage.content)
        line = (
            damage.content
            if damage.key is None
            else record.replace(
                json.dumps(EXAMPLES["config.json"]).encode(), damage.content
            )
        )
        (packed / records.FILE).write_bytes(record + b"\n" + line.replace(b"\n", b""))
        found, warnings = records.read(tmp_path)
        assert [record.name for record in found] == ["packed/a"]
        assert len(warnings) == 2 - (damage.content == b""), damage
        assert "is not the config of a run: " in " ".join(warnings)


def test_folders_with_strange_names_are_no_checkpoints(tmp_path, capsys):
    for name in ("7", "007", "\u0667", "\u00b2", "9" * 30, "8.damaged", "\x1b[31m\n"):
        (tmp_path / name).mkdir()
    (tmp_path / "7" / "state").mkdir()
    (tmp_path / "12").touch()
    (tmp_path / "13").mkdir()
    (tmp_path / "6.orbax-checkpoint-tmp").mkdir()
    found = inventory.Inventory(tmp_path)
    assert found.steps() == [7, 13]
    assert len(found.strange()) == 6
    assert found.newest == 7
    strange, empty = capsys.readouterr().err.splitlines()
    assert "passing over \\x1b[31m\\n, 007, 12, 9999" in strange
    assert "the checkpoint of step 13 is damaged (it holds no state)" in empty
    found.quarantine()
    left = {path.name for path in tmp_path.iterdir() if path.name.isdecimal()}
    assert left == {"7"}
