import json

import pytest

from kdjax import recipes
from kdjax.runs import lock, workdirs


@pytest.fixture
def config():
    return recipes.alone("wrn_10_1,digits")


def test_another_configuration_is_refused_and_named(tmp_path, config):
    workdirs.create(tmp_path, config)
    workdirs.check_config(tmp_path, config)
    config.seed = 7
    config.optimizer.learning_rate = 0.2
    with pytest.raises(ValueError, match="belongs to another configuration") as error:
        workdirs.check_config(tmp_path, config)
    assert "optimizer.learning_rate was 0.1 and is 0.2" in str(error.value)
    assert "seed was 0 and is 7" in str(error.value)
    config.checkpoint.allow_config_change = True
    workdirs.check_config(tmp_path, config)


def test_methods_count_and_places_do_not(tmp_path, config):
    workdirs.create(tmp_path, config)
    config.data.data_dir = "elsewhere"
    config.checkpoint.keep_last = 9
    workdirs.check_config(tmp_path, config)
    taught = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin was None and is"):
        workdirs.check_config(tmp_path, taught)


def test_a_run_older_than_a_field_goes_on_with_its_default(tmp_path):
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    workdirs.create(tmp_path, config)
    saved = workdirs.read_config(tmp_path)
    del saved["task_weight"], saved["data"]["crop"], saved["data"]["mixup"]
    del saved["methods"]["overhaul"]["warm_up"]
    workdirs.write_json(tmp_path / "config.json", saved)
    workdirs.check_config(tmp_path, config)
    config.data.crop = "per_batch"
    with pytest.raises(ValueError, match=r"data\.crop was 'per_image' and is"):
        workdirs.check_config(tmp_path, config)


def test_a_directory_of_something_else_is_refused(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        workdirs.check_config(tmp_path, config)
    with pytest.raises(ValueError, match="is not a directory"):
        workdirs.check_config(tmp_path / "thesis.tex", config)


def test_a_directory_of_a_run_killed_as_it_began_is_taken(tmp_path, config):
    (tmp_path / lock.NAME).touch()
    (tmp_path / "config.tmp").write_text("{")
    workdirs.check_config(tmp_path, config)


def test_a_file_that_was_cut_short_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged: Expecting value"):
        workdirs.read_config(tmp_path)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    workdirs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        workdirs.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_provenance_names_device_versions_and_revision():
    found = workdirs.provenance()
    assert found["device_kind"] == "cpu"
    assert found["num_devices"] == 4
    assert {"python", "jax", "flax", "optax"} <= found["versions"].keys()
    assert found["git_revision"]
