import json
import re
import subprocess

import pytest

from kdjax import recipes
from kdjax.runs import lock, workdirs


@pytest.fixture
def config():
    return recipes.alone("wrn_10_1,digits")


def test_another_configuration_is_rejected_and_named(tmp_path, config):
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


def test_other_methods_are_rejected_and_other_folders_are_not(tmp_path, config):
    workdirs.create(tmp_path, config)
    config.data.data_dir = "elsewhere"
    config.checkpoint.keep_last = 9
    workdirs.check_config(tmp_path, config)
    taught = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    with pytest.raises(ValueError, match=r"methods\.overhaul\.margin was None and is"):
        workdirs.check_config(tmp_path, taught)


def test_a_run_older_than_a_field_resumes_with_its_default(tmp_path):
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


def test_a_directory_of_something_else_is_rejected(tmp_path, config):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        workdirs.check_config(tmp_path, config)
    with pytest.raises(ValueError, match="is not a directory"):
        workdirs.check_config(tmp_path / "thesis.tex", config)


def test_a_directory_of_a_run_killed_at_its_start_is_accepted(tmp_path, config):
    (tmp_path / lock.NAME).touch()
    (tmp_path / lock.HOLDER).touch()
    (tmp_path / "config.tmp").write_text("{")
    workdirs.check_config(tmp_path, config)


def test_a_truncated_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged: Expecting value"):
        workdirs.read_config(tmp_path)


def test_json_is_written_atomically(tmp_path):
    path = tmp_path / "result.json"
    workdirs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        workdirs.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_provenance_names_device_versions_and_revision():
    found = workdirs.provenance()
    assert found["device_kind"] == "cpu"
    assert found["num_devices"] == 4
    assert {"python", "kdjax", "jax", "flax", "optax"} <= found["versions"].keys()
    assert found["git_revision"]


@pytest.mark.parametrize("name", ["kdjax", "other"])
def test_the_revision_is_not_that_of_a_repository_kdjax_is_installed_into(
    tmp_path, monkeypatch, name
):
    """As when it lies in project/.venv/lib, or in a folder of another project."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.2.3"\n'
    )
    module = tmp_path / "kdjax" / "runs" / "workdirs.py"
    monkeypatch.setattr(workdirs, "__file__", str(module))
    found = workdirs.provenance()
    if name == "kdjax":
        assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", found["git_revision"])
        assert found["versions"]["kdjax"] == "1.2.3"
    else:
        assert found["git_revision"] == f"kdjax {found['versions']['kdjax']}"
        assert found["versions"]["kdjax"] != "1.2.3"


def test_other_devices_and_versions_are_one_warning(tmp_path, capsys):
    before = workdirs.provenance()
    workdirs.warn_of_changes(tmp_path, before, before)
    workdirs.warn_of_changes(tmp_path, {}, before)
    assert capsys.readouterr().err == ""
    now = before | {"num_devices": 1, "versions": before["versions"] | {"jax": "9"}}
    workdirs.warn_of_changes(tmp_path, before, now)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kdjax: warning: {tmp_path}: num_devices was 4 and is 1; ")
    assert f"jax was {before['versions']['jax']} and is 9" in line
