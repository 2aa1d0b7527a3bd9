"""What README.md and docs/ show is run, and their commands and links exist."""

import pathlib
import re
import runpy
import shlex
import sys
import types

import ml_collections
import pytest

from kdjax import distill, train
from kdjax.cli import installation
from kdjax.config import fields
from kdjax.distill import registry
from tests import small_runs

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}

#: What stands for a choice of the reader's in commands.
PLACEHOLDERS = {"METHOD": "kd", "TEACHER-STUDENT": "wrn_16_2-wrn_10_1", "[,DATA]": ""}


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Returns every `python -m` command of the pages, with the page's name."""
    found = []
    for name, text in PAGES.items():
        joined = text.replace("\\\n", " ")
        for line in re.findall(r"(?:^|`)(?: {4})?(python -m [^`\n]+)", joined, re.M):
            if not line.startswith("python -m pytest"):
                found.append((name, line.partition("#")[0].strip()))
    return found


def source_of(module: str) -> str:
    """Returns the text of a module that is run by name, without importing it."""
    path = ROOT / pathlib.Path(*module.split("."))
    if path.is_dir():
        assert (path / "__main__.py").is_file(), f"{module} is no command"
        return "\n".join(file.read_text() for file in path.glob("*.py"))
    return path.with_suffix(".py").read_text()


def check_config(argument: str, overrides: dict[str, str]) -> None:
    """Loads the config file of a command, and looks its overrides up in it."""
    path, _, argument = argument.partition(":")
    for placeholder, value in PLACEHOLDERS.items():
        argument = argument.replace(placeholder, value)
    file = ROOT / installation.find_config(path)
    config = runpy.run_path(str(file))["get_config"](*[argument] * bool(argument))
    assert isinstance(config, ml_collections.ConfigDict)
    for field in overrides:
        fields.value(config, field)


def test_readme_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if not target.startswith(("http://", "https://", "#")):
            path = (ROOT / page).parent / target.partition("#")[0]
            assert path.exists(), f"{page}: {target}"


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_exist(page, line):
    del page
    _, _, module, *rest = shlex.split(line)
    source = source_of(module)
    named = dict(part[2:].partition("=")[::2] for part in rest if part[:2] == "--")
    overrides = {
        name.removeprefix("config."): value
        for name, value in named.items()
        if name.startswith("config.")
    }
    for name in named.keys() - {f"config.{field}" for field in overrides}:
        assert re.search(rf'"(--)?{name}"', source), f"--{name} of {module}"
    file = named.get("config", "")
    # my.py is the reader's own.
    if file and not file.startswith("my.py"):
        check_config(file, overrides)


def test_every_method_is_in_the_table():
    section, _ = README.partition("## Methods")[2].split("\n## ", 1)
    cells = re.findall(r"^\| [a-z ]+ \| (`.*) \|$", section, re.M)
    named = re.findall(r"`(\w+)` \(", " ".join(cells))
    assert sorted(named) == sorted(distill.METHODS)


@pytest.mark.parametrize("name", ["optax_loop", "nnx_loop"])
def test_loops_are_those_of_the_examples(name):
    example = (ROOT / "docs" / "examples" / f"{name}.py").read_text()
    shown = [block for block in python_blocks(README) if block.strip() in example]
    assert shown, f"README shows no part of {name}.py"
    assert all(len(block.splitlines()) <= 20 for block in shown)


@pytest.fixture
def shown_method(monkeypatch):
    """Registers the README's method; returns its name and its get_config."""
    (source,) = [text for text in python_blocks(README) if "distill.Method" in text]
    monkeypatch.setattr(registry, "METHODS", registry.METHODS.copy())
    monkeypatch.setattr(distill, "METHODS", registry.METHODS)
    # Where a dataclass looks for its module.
    module = types.ModuleType("my")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "README.md", "exec"), vars(module))
    return module


def test_the_method_trains(shown_method, tmp_path):
    config = shown_method.get_config("resnet8-wrn_10_1,digits")
    config.teacher.checkpoint = str(tmp_path / "teacher")
    config.epochs = 1
    with small_runs.shortcuts():
        small_runs.write_teacher(tmp_path / "teacher")
        assert train.train_and_evaluate(config, tmp_path / "student")["final_step"] == 3
    metrics = (tmp_path / "student" / "metrics.jsonl").read_text()
    assert "sharp_kd/kl" in metrics
