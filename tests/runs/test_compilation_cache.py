import os
import pathlib
import types

import pytest

from kdjax.cli import home
from kdjax.runs import compilation_cache


class Config(types.SimpleNamespace):
    """Stands in for `jax.config`."""

    def __init__(self, folder=None):
        super().__init__(jax_compilation_cache_dir=folder)

    def update(self, name, value):
        setattr(self, name, value)


@pytest.fixture
def set_up(monkeypatch, capsys):
    """Returns a function of a home: the folder that it gives, and what is said."""

    def run(home, given=None):
        monkeypatch.setenv("HOME", str(home))
        config = Config(given)
        compilation_cache.set_up(config)
        return config.jax_compilation_cache_dir, capsys.readouterr().err

    return run


def mode(path):
    return path.stat().st_mode & 0o777


def test_the_folder_is_made_for_the_user_alone(set_up, tmp_path):
    folder, said = set_up(tmp_path)
    assert said == ""
    path = pathlib.Path(folder)
    assert path == tmp_path / ".cache" / "kdjax" / "compilation"
    assert mode(path) == 0o700
    path.chmod(0o755)
    assert set_up(tmp_path) == (folder, "")
    assert mode(path) == 0o700


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_that_everyone_can_write_is_refused(set_up, tmp_path, level):
    folder, _ = set_up(tmp_path)
    path = [pathlib.Path(folder), pathlib.Path(folder).parent][level]
    path.chmod(0o777)
    found, said = set_up(tmp_path)
    assert found is None
    assert said == (
        f"kdjax: warning: compiled programs are not cached: {path}: everyone can write "
        "what lies there\n"
    )
    assert mode(path) == 0o777
    found, said = set_up(tmp_path, given=str(path))
    assert (found, said.count("\n")) == (None, 1)
    path.chmod(0o755)
    assert set_up(tmp_path, given=str(path)) == (str(path), "")
    assert set_up(tmp_path, given="gs://bucket/a") == ("gs://bucket/a", "")


def test_a_folder_of_another_user_is_refused(set_up, tmp_path, monkeypatch):
    """As where root keeps the home of the user that it was."""
    set_up(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    found, said = set_up(tmp_path)
    assert found is None
    assert said.endswith("compilation: it belongs to another user\n")


def test_a_folder_that_cannot_be_written_is_refused(set_up, tmp_path, monkeypatch):
    set_up(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found, said = set_up(tmp_path)
    assert found is None
    assert said.endswith("compilation: it cannot be written\n")


@pytest.mark.parametrize("home", ["none", "file", "/proc"])
def test_without_a_usable_home_nothing_is_cached(set_up, tmp_path, home):
    (tmp_path / "file").touch()
    found, said = set_up(tmp_path / home)
    assert found is None
    assert said.startswith("kdjax: warning: compiled programs are not cached: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_user_without_an_entry_has_no_cache(set_up, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", no_home)
    found, said = set_up("")
    assert found is None
    assert said.endswith("are not cached: the user has no home\n")


def test_a_home_that_is_not_known_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="~no_such_user/run: that home is not known"):
        home.expanded("~no_such_user/run")
    assert home.expanded(tmp_path) == tmp_path
