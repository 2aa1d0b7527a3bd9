import json

import pytest

from kdjax import recipes, run_directory


@pytest.fixture
def config():
    return recipes.alone("wrn_10_1,digits")


def test_another_configuration_is_refused_and_named(tmp_path, config):
    run_directory.create(tmp_path, config)
    run_directory.check_config(tmp_path, config)
    config.seed = 7
    config.optimizer.learning_rate = 0.2
    with pytest.raises(ValueError, match="belongs to another configuration") as error:
        run_directory.check_config(tmp_path, config)
    assert "optimizer.learning_rate was 0.1 and is 0.2" in str(error.value)
    assert "seed was 0 and is 7" in str(error.value)
    config.checkpoint.allow_config_change = True
    run_directory.check_config(tmp_path, config)


def test_methods_count_and_places_do_not(tmp_path, config):
    run_directory.create(tmp_path, config)
    config.data.data_dir = "elsewhere"
    config.checkpoint.keep_last = 9
    run_directory.check_config(tmp_path, config)
    taught = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin was None and is"):
        run_directory.check_config(tmp_path, taught)


def test_a_directory_of_something_else_is_refused(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        run_directory.check_config(tmp_path, config)
    with pytest.raises(ValueError, match="is not a directory"):
        run_directory.check_config(tmp_path / "thesis.tex", config)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    run_directory.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        run_directory.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_provenance_names_device_versions_and_revision():
    found = run_directory.provenance()
    assert found["device_kind"] == "cpu"
    assert found["num_devices"] == 4
    assert {"python", "jax", "flax", "optax"} <= found["versions"].keys()
    assert found["git_revision"]
