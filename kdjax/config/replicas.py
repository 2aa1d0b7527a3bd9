"""The runs of one configuration: seeds, or values of one field.

`kdjax.replicas` trains them in one program.
"""

import ast
from collections.abc import Mapping
from typing import Any

import ml_collections

from kdjax import distill
from kdjax.config import fields
from kdjax.config.field import shown

#: Fields and groups of fields in which runs may differ. Others would change the data,
#: the teacher or the number of steps, which they share.
_MAY_DIFFER = (
    "methods",
    "optimizer",
    "pretrain.optimizer",
    "distill_first.optimizer",
    "task_weight",
    "label_smoothing",
    "ema_decay",
)

#: Largest seed.
_LAST_SEED = 2**32 - 1


def are_asked_for(config: ml_collections.ConfigDict) -> bool:
    """Tells whether a configuration describes several runs."""
    return config.replicas > 1 or bool(config.replicas_over)


def split(config: ml_collections.ConfigDict) -> dict[str, ml_collections.ConfigDict]:
    """Splits a configuration into those of its runs.

    Args:
      config: with `replicas` seeds, counted from its own, or with `replicas_over`.

    Returns:
      The configuration that each run alone would have, by the name of its folder below
      the work directory, as "seed_0" or "methods.kd.weight=0.5"; that of a single run,
      which has the work directory itself, by "".

    Raises:
      ValueError: if `replicas_over` is no list of values of a field that may differ; or
        if there are not so many seeds.
    """
    if not are_asked_for(config):
        return {"": config}
    if config.replicas_over:
        field, values = _values(config)
    else:
        field, values = "seed", _seeds(config)
    found = {}
    for value in values:
        single = config.copy_and_resolve_references()
        single.update_from_flattened_dict(
            {"replicas": 1, "replicas_over": "", field: value}
        )
        found[f"seed_{value}" if field == "seed" else f"{field}={value}"] = single
    _check_views(found)
    return found


def _seeds(config: ml_collections.ConfigDict) -> range:
    seeds = range(config.seed, config.seed + config.replicas)
    if seeds[-1] > _LAST_SEED:
        raise ValueError(
            f"replicas={config.replicas} from seed={config.seed} on ends at seed "
            f"{seeds[-1]}, and the largest is {_LAST_SEED}"
        )
    return seeds


def _values(config: ml_collections.ConfigDict) -> tuple[str, list[Any]]:
    """Reads the field and the values of `replicas_over`."""
    given = f"replicas_over={shown(config.replicas_over)}"
    if config.replicas > 1:
        raise ValueError(
            f"{given} are runs that differ in a field, and replicas={config.replicas} "
            "are seeds: give one of them"
        )
    field, _, texts = config.replicas_over.partition("=")
    field, parts = field.strip(), [text.strip() for text in texts.split(",")]
    if not all(parts):
        raise ValueError(
            f'{given} is not "FIELD=VALUE,VALUE,...", as "methods.kd.weight=0.5,1,2"'
        )
    try:
        now = fields.value(config, field)
    except (KeyError, AttributeError, TypeError):
        raise ValueError(f"{given}: the configuration has no field {field!r}") from None
    allowed = any(field == name or field.startswith(f"{name}.") for name in _MAY_DIFFER)
    if not allowed or not isinstance(now, bool | int | float | str):
        raise ValueError(
            f"{given}: runs may differ in one number or word of "
            f"{', '.join(_MAY_DIFFER)}"
        )
    if any("/" in text for text in parts):
        raise ValueError(f"{given}: a value with a slash cannot name a folder")
    values = [_read(text, now, given) for text in parts]
    if len(values) < 2 or len(set(values)) < len(values):
        raise ValueError(f"{given}: these are not two or more different values")
    return field, values


def _read(text: str, now: Any, given: str) -> Any:
    """Reads a value of the type that the field has now."""
    if isinstance(now, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if isinstance(now, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(now):
        raise ValueError(f"{given}: {text!r} is no {type(now).__name__}")
    return value


def _check_views(configs: Mapping[str, ml_collections.ConfigDict]) -> None:
    """Rejects runs of which only some need a second view: they share their batches."""
    needing = [
        name
        for name, config in configs.items()
        if any(method.needs_second_view for method in _methods(config))
    ]
    if needing and len(needing) < len(configs):
        raise ValueError(
            f"replicas_over: {', '.join(needing)} need a second view of each image and "
            "the others do not, and all have the same batches"
        )


def _methods(config: ml_collections.ConfigDict) -> list[distill.Method]:
    """Returns the methods; none if a hyperparameter is wrong, which is said later."""
    try:
        return list(distill.build(config.methods).values())
    except ValueError:
        return []
