"""Checkpoints that were damaged, and saves that fail."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax import checkpoint as ocp

from kdjax.runs.checkpoint import Checkpoints


def state(step):
    return {"kernel": jnp.full((40, 40), step, jnp.float32), "step": jnp.int32(step)}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A work directory with the checkpoints of the steps 1, 2 and 3."""
    workdir = tmp_path_factory.mktemp("three")
    with Checkpoints(workdir, keep_last=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"step": step}, 0.5)
    return workdir


@pytest.fixture
def workdir(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def snapshot(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in (folder, *folder.rglob("*"))
        if path.exists()
    }


def arrays_of(folder):
    """Returns the file that holds the arrays."""
    return max((folder / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


#: What can be done to a checkpoint, given its folder.
DAMAGES = {
    "arrays cut": lambda folder: cut(arrays_of(folder)),
    "arrays removed": lambda folder: arrays_of(folder).unlink(),
    "index empty": lambda folder: empty(folder / "state" / "manifest.ocdbt"),
    "state removed": lambda folder: shutil.rmtree(folder / "state"),
    "metadata empty": lambda folder: empty(folder / "metadata" / "metadata"),
    "metrics cut": lambda folder: cut(folder / "metrics" / "metrics"),
    "manifest cut": lambda folder: cut(folder / "files.json"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_skipped(workdir, damage, capsys):
    folder = workdir / "checkpoints"
    damage(folder / "3")
    before = snapshot(workdir)
    with Checkpoints(workdir, keep_last=3) as checkpoints:
        assert checkpoints.latest_step == 2
        restored, metadata = checkpoints.restore(state(0))
        jax.tree.map(np.testing.assert_array_equal, restored, state(2))
        assert metadata == {"step": 2}
        (line,) = capsys.readouterr().err.splitlines()
        assert "the checkpoint of step 3 is damaged" in line
        assert "using step 2" in line
        assert snapshot(workdir) == before
        checkpoints.save(3, state(3), {"step": 3}, 0.5)
    assert "3.damaged" in capsys.readouterr().err
    assert {p.name for p in folder.iterdir()} == {"1", "2", "3", "3.damaged"}
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest_step == 3
        saved = checkpoints.restore_as_saved()
    jax.tree.map(np.testing.assert_array_equal, saved, state(3))


def test_a_second_damaged_checkpoint_of_a_step_gets_another_name(workdir):
    folder = workdir / "checkpoints"
    (folder / "3.damaged").mkdir()
    DAMAGES["metadata empty"](folder / "3")
    with Checkpoints(workdir, keep_last=3) as checkpoints:
        checkpoints.save(3, state(3), {})
    assert {p.name for p in folder.iterdir()} >= {"3", "3.damaged", "3.damaged.1"}


def test_without_a_manifest_reading_finds_the_damage(workdir, capsys):
    folder = workdir / "checkpoints"
    (folder / "3" / "files.json").unlink()
    (folder / "3" / "state" / "_METADATA").unlink()
    (folder / "3" / "metadata" / "metadata").write_text("{")
    with Checkpoints(workdir) as checkpoints:
        _, metadata = checkpoints.restore(state(0))
    assert metadata == {"step": 2}
    assert "step 3 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["9", "9" * 30])
@pytest.mark.parametrize("known", [True, False])
def test_a_copy_under_another_step_is_passed_over_and_blocks_no_save(
    workdir, name, known, capsys
):
    """Orbax saves nothing before the latest step that it finds."""
    folder = workdir / "checkpoints"
    shutil.copytree(folder / "3", folder / name)
    if not known:
        # A checkpoint that is older than manifests, and than a step in its metadata.
        (folder / name / "files.json").unlink()
        (folder / name / "metadata" / "metadata").write_text("{}")
    with Checkpoints(workdir) as checkpoints:
        restored, _ = checkpoints.restore(state(0))
        assert restored["step"] == 3
        checkpoints.save(4, state(4), {})
    assert Checkpoints(workdir).latest_step == 4
    assert "9.damaged" in capsys.readouterr().err


def test_if_all_checkpoints_are_damaged_each_is_explained_and_nothing_moved(workdir):
    for step in "123":
        DAMAGES["index empty"](workdir / "checkpoints" / step)
    before = snapshot(workdir)
    with pytest.raises(
        ValueError, match="all checkpoints are damaged: step 3: state/man"
    ):
        _ = Checkpoints(workdir).latest_step
    assert snapshot(workdir) == before


def test_the_best_and_any_step_are_found(tmp_path):
    with Checkpoints(tmp_path, keep_last=4) as checkpoints:
        for step, accuracy in enumerate((0.2, 0.7, 0.7, None), 1):
            checkpoints.save(step, state(step), {}, accuracy)

    def step_of(which):
        return int(Checkpoints(tmp_path).restore_as_saved(which)["step"])

    assert [step_of(which) for which in ("last", "best", "1")] == [4, 3, 1]
    cut(arrays_of(tmp_path / "checkpoints" / "3"))
    assert step_of("best") == 2
    for which in ("3", "5", "-1", "first"):
        with pytest.raises(
            ValueError, match=f"step='{which}' is neither 'last' .*: 1, 2, 4$"
        ):
            step_of(which)


def test_without_evaluations_the_newest_is_the_best(tmp_path):
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {})
    assert int(Checkpoints(tmp_path).restore_as_saved("best")["step"]) == 2


def test_another_tree_is_rejected_and_nothing_called_damaged(workdir, capsys):
    other = {"bias": jnp.zeros(3)}
    with pytest.raises(ValueError, match="bias"):
        Checkpoints(workdir).restore(other)
    assert capsys.readouterr().err == ""


def test_reading_leaves_what_is_half_written_alone(workdir):
    (workdir / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir()
    before = snapshot(workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.restore_as_saved()
    assert snapshot(workdir) == before
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(4, state(4), {})
    assert not list((workdir / "checkpoints").glob("*tmp*"))


def test_opening_creates_nothing(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        with pytest.raises(ValueError, match="holds no checkpoint"):
            checkpoints.restore_as_saved()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_gives_the_reason_and_what_is_left(workdir, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with Checkpoints(workdir) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(OSError, match="No space left") as error:
            checkpoints.save(4, state(4), {})
    assert str(error.value).startswith(str(pathlib.Path(workdir, "checkpoints")))
    assert str(error.value).endswith("the checkpoint of step 3 is complete")


def test_after_waiting_a_checkpoint_is_complete(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.wait()
        checkpoints.save(1, state(1), {})
        checkpoints.wait()
        assert (tmp_path / "checkpoints" / "1" / "files.json").exists()
        assert checkpoints.latest_step == 1
