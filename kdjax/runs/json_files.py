"""Reads JSON that kdjax wrote earlier, and tells what is damaged in it.

A schema is an object with the type of each value, the schema of an object within, or a
list of the one type of a list's values. A key that ends in "?" may be missing, and "*"
stands for every key. Keys that a schema does not name may hold anything.
"""

import json
import math
import pathlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

from kdjax.config.field import shown
from kdjax.config.fields import FIELDS

Schema = Mapping[str, Any]

_KINDS = {
    bool: "true or false",
    str: "text",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
    types.NoneType: "null",
}

_EVALUATION = {"step": int, "accuracy": float}

#: Fields of `config.json` that every run has had; others may be younger than a run.
_ALWAYS = ("model", "seed", "epochs", "batch_size", "data.name", "data.mean")
_ALWAYS += ("data.std", "teacher.model", "teacher.checkpoint")


def _of_fields() -> Schema:
    """Returns the schema of `config.json`, from the table of fields."""
    schema: dict[str, Any] = {"methods": {"*": dict}}
    groups = {path.rpartition(".")[0] for path in _ALWAYS}
    for path, field in FIELDS.items():
        *parents, name = path.split(".")
        inner, above = schema, []
        for parent in parents:
            above.append(parent)
            optional = "?" * (".".join(above) not in groups)
            inner = inner.setdefault(parent + optional, {})
        kind = type(field.default)
        # Runs without a teacher once had none of these.
        kind = [float] if kind is tuple else str | None if "teacher" in path else kind
        inner[name + "?" * (path not in _ALWAYS)] = kind
    return schema


#: Of `config.json`.
CONFIG = _of_fields()

#: Of `result.json`.
RESULT: Schema = {
    "final_test_accuracy": float,
    "final_step": int,
    "best_step": int,
    "best_test_accuracy": float | None,
    "best_validation_accuracy?": float,
    "teacher_test_accuracy?": float | None,
    "wall_s?": float,
    "images_per_s?": float | None,
    "images?": {"*": int},
    "parameters?": dict,
    "phases?": {"*": dict},
    "versions?": {"*": str},
    "config?": CONFIG,
}

#: Of `inputs.json`; an import knows the names of the classes alone, or nothing.
INPUTS: Schema = {
    "class_names?": [str],
    "images?": {"*": str},
    "teacher?": str | None,
}

#: Of a line of `metrics.jsonl`.
METRICS: Schema = {"step": int, "epoch": float, "split": str}

#: Of `run.lock.json`.
HOLDER: Schema = {"pid": int, "host": str}

#: Of `files.json` in a checkpoint.
MANIFEST: Schema = {"*": {"bytes": int, "crc32": int}}

#: Of the metadata of a checkpoint, which `kdjax.loop` writes.
METADATA: Schema = {
    "step?": int,
    "wall_s?": float,
    "ended_early?": bool,
    "images?": {"*": int},
    "config?": dict,
    "versions?": {"*": str},
    "log?": {
        "means": {"totals": {"*": float}, "count": int},
        "evaluations": {"*": {"best": _EVALUATION, "last": _EVALUATION}},
    },
}

#: Of the metrics that a checkpoint was saved with; older runs call it test_accuracy.
ACCURACY: Schema = {"accuracy?": float, "test_accuracy?": float}


def read(path: pathlib.Path, schema: Schema) -> dict[str, Any] | None:
    """Reads a file that holds an object; None if there is none.

    Raises:
      ValueError: in one line that names the file and the key, if it is damaged.
    """
    if not path.exists():
        return None
    try:
        return parse(path.read_bytes(), schema)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def parse(text: bytes | str, schema: Schema) -> dict[str, Any]:
    """Returns the object that a text holds.

    Raises:
      ValueError: in one line, if it holds none, or one of another schema.
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except ValueError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    check(value, schema)
    return value


def check(value: Mapping[str, Any], schema: Schema) -> None:
    """Raises a ValueError that names the first key that breaks a schema."""
    for problem in _problems(value, schema, ""):
        raise ValueError(problem)


def _problems(value: Mapping[str, Any], schema: Schema, prefix: str) -> Iterator[str]:
    for key, kind in schema.items():
        name = key.removesuffix("?")
        if key == "*":
            names = list(value)
        elif name in value:
            names = [name]
        else:
            names = []
            if name == key:
                yield f"{prefix}{name} is missing"
        for name in names:
            yield from _problems_of_one(value[name], kind, f"{prefix}{name}")


def _problems_of_one(value: Any, kind: Any, path: str) -> Iterator[str]:
    if isinstance(kind, Mapping):
        if isinstance(value, dict):
            yield from _problems(value, kind, f"{path}.")
            return
        kind = dict
    if isinstance(kind, list):
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _problems_of_one(item, kind[0], f"{path}[{index}]")
            return
        kind = list
    kinds = kind.__args__ if isinstance(kind, types.UnionType) else (kind,)
    if not any(_fits(value, one) for one in kinds):
        names = " or ".join(_KINDS[one] for one in kinds)
        yield f"{path}={shown(value)} is not {names}"


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return _fits(value, int) or (type(value) is float and math.isfinite(value))
    # A bool is an instance of int.
    return type(value) is kind
