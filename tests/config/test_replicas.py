"""Configurations that describe several runs."""

import re

import pytest

from kdjax import recipes
from kdjax.config import checks, replicas
from kdjax.runs import summary, workdirs


def config(**overrides):
    methods = {"kd": {}, "overhaul": {}}
    found = recipes.distillation("wrn_10_2-wrn_10_1,digits", methods)
    found.teacher.checkpoint = "not read"
    found.update_from_flattened_dict(overrides)
    return found


def differences(first, second):
    first, second = (workdirs.flatten(c.to_dict()) for c in (first, second))
    return {name for name in first if first[name] != second[name]}


def test_seeds_are_counted_from_that_of_the_configuration():
    several = config(replicas=3, seed=5)
    runs = replicas.split(several)
    assert list(runs) == ["seed_5", "seed_6", "seed_7"]
    assert [run.seed for run in runs.values()] == [5, 6, 7]
    assert differences(runs["seed_6"], several) == {"replicas", "seed"}
    assert several.replicas == 3


@pytest.mark.parametrize(
    ("over", "values"),
    [
        ("methods.kd.weight=0.5,1", [0.5, 1.0]),
        ("optimizer.nesterov = true_is_no_bool", None),
        ("optimizer.nesterov=True,False", [True, False]),
        ("optimizer.schedule=cosine,constant", ["cosine", "constant"]),
    ],
)
def test_values_have_the_type_of_their_field(over, values):
    several = config(replicas_over=over)
    if values is None:
        with pytest.raises(ValueError, match="'true_is_no_bool' is no bool"):
            replicas.split(several)
        return
    runs = replicas.split(several)
    field = over.partition("=")[0]
    assert list(runs) == [f"{field}={value}" for value in values]
    for run, value in zip(runs.values(), values, strict=True):
        assert workdirs.flatten(run.to_dict())[field] == value
        assert differences(run, several) <= {"replicas_over", field}


def test_one_run_is_the_configuration_itself():
    alone = config()
    assert replicas.split(alone) == {"": alone}
    assert not replicas.are_asked_for(alone)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"replicas_over": "methods.kd.weight"}, 'is not "FIELD=VALUE,VALUE,..."'),
        ({"replicas_over": "methods.kd.weight=1"}, "not two or more different values"),
        ({"replicas_over": "methods.kd.weight=1,1.0"}, "two or more different values"),
        ({"replicas_over": "methods.dkd.alpha=1,2"}, "no field 'methods.dkd.alpha'"),
        ({"replicas_over": "methods.kd=1,2"}, "may differ in one number or word of"),
        ({"replicas_over": "batch_size=8,16"}, "may differ in one number or word of"),
        ({"replicas_over": "methods.kd.weight=1,high"}, "'high' is no float"),
        ({"replicas_over": "optimizer.learning_rate=1,-1"}, "learning_rate=-1.0 "),
        ({"replicas_over": "optimizer.name=sgd,a/b"}, "slash cannot name a folder"),
        (
            {"replicas_over": "methods.kd.weight=1,2", "replicas": 2},
            "are runs that differ in a field, and replicas=2 are seeds",
        ),
        ({"replicas": 2, "seed": 2**32 - 1}, "replicas=2 from seed=4294967295 on ends"),
        ({"replicas": 0}, "replicas=0"),
        ({"data.seed": -2}, "data.seed=-2"),
    ],
)
def test_impossible_runs_are_refused_in_one_line(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        checks.check(config(**overrides))
    assert "\n" not in str(error.value)


def test_runs_that_share_batches_all_need_a_second_view_or_none():
    several = recipes.distillation("wrn_10_2-wrn_10_1,digits", {"mlkd": {}})
    several.replicas_over = "methods.mlkd.views=1,2"
    with pytest.raises(ValueError, match=r"mlkd.views=2 need a second view"):
        checks.check(several)


def test_a_dry_run_names_the_runs_and_refuses_the_folder_of_a_single_one(tmp_path):
    several = recipes.alone("wrn_10_1,digits")
    several.replicas = 2
    assert "runs     seed_0, seed_1" in summary.dry_run(several, tmp_path)
    workdirs.create(tmp_path, recipes.alone("wrn_10_1,digits"))
    with pytest.raises(ValueError, match="holds a single run"):
        summary.dry_run(several, tmp_path)
