"""What the README shows is run."""

import pathlib
import re
import sys
import types

import ml_collections
import pytest

from kdjax import config as config_lib
from kdjax import distill, recipes, train

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def shown_method(monkeypatch):
    """Puts the README's method into the table."""
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(source.splitlines()) < 40
    # Where a dataclass looks for its module.
    module = types.ModuleType("shown_method")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, "README.md", "exec"), vars(module))
    method = module.LogitMatching
    monkeypatch.setitem(distill.METHODS, method.name, method)
    return method.name


def test_the_method_trains(shown_method, tmp_path):
    teacher = recipes.teacher("wrn_10_1,digits")
    teacher.epochs = 2
    train.train_and_evaluate(teacher, tmp_path / "teacher")
    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {shown_method: {}})
    config.teacher.checkpoint = str(tmp_path / "teacher")
    config.epochs = 1
    result = train.train_and_evaluate(config, tmp_path / "student")
    assert result["final_step"] == 3
    assert (
        "logit_matching/logits" in (tmp_path / "student" / "metrics.jsonl").read_text()
    )


def test_the_composition_is_sound():
    (source,) = re.findall(
        r"(    config\.methods\.overhaul = .*?\n    \)\n)", README, re.DOTALL
    )
    config = recipes.distillation("wrn_16_2-wrn_10_1,digits", {})
    config.teacher.checkpoint = "somewhere"
    assert isinstance(config.methods, ml_collections.ConfigDict)
    lines = "\n".join(line[4:] for line in source.splitlines())
    exec(lines, {"config": config, "distill": distill})
    assert set(config.methods) == {"overhaul", "kd", "mine"}
    config_lib.check(config)
