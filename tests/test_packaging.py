"""Packages, dependencies and extras of an installation."""

import importlib.metadata
import pathlib
import re
import tomllib

import pytest

from kdjax.cli import installation

ROOT = pathlib.Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = PYPROJECT["project"]["optional-dependencies"]


def requirements(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {
        line.partition("#")[0].strip() for line in lines if line.partition("#")[0]
    } - {""}


def test_requirements_are_the_core_and_its_extras():
    expected = set(PYPROJECT["project"]["dependencies"])
    for extra in ("train", "data", "export", "report", "dev"):
        expected |= {text for text in OPTIONAL[extra] if not text.startswith("kdjax[")}
    assert requirements("requirements.txt") == expected


def test_requirements_of_onnx_are_an_extra():
    expected = {text for text in OPTIONAL["onnx"] if not text.startswith("kdjax[")}
    assert requirements("requirements-onnx.txt") == expected


def test_requirements_of_targets_are_an_extra():
    assert requirements("requirements-targets.txt") == set(OPTIONAL["targets"])


def test_every_folder_is_an_installed_package():
    folders = {path.parent for path in (ROOT / "kdjax").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert set(setuptools["packages"]) == expected | set(setuptools["package-dir"])
    assert len(setuptools["packages"]) == len(set(setuptools["packages"]))


def test_missing_packages_are_named_with_their_extra(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [
            "jax>=0.10",
            'no-such-package<1,>=0.1; extra == "train"',
            'pytest>=8; extra == "train"',
            'another.one; extra == "data"',
        ],
    )
    message = (
        "kdjax.runs needs no-such-package: in the checkout of kdjax, "
        'pip install ".[train]"; for all'
    )
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        installation.require_extra("train", needed_by="kdjax.runs")


def test_nothing_is_required_of_a_checkout(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    installation.require_extra("train", needed_by="kdjax.runs")


def test_packaged_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = installation.find_config("configs/student.py")
    assert found == str(ROOT / "configs" / "student.py")
    assert installation.find_config("configs/none.py") == "configs/none.py"
    mine = tmp_path / "configs" / "student.py"
    mine.parent.mkdir()
    mine.touch()
    assert installation.find_config("configs/student.py") == "configs/student.py"
