"""Damages to the files of a run, and what kdjax answers to each.

    python -m tests.hostile.files

trains a tiny run and its teacher, does each damage to a copy, runs the command that
trains again, and prints the table of file, damage, answer, status and seconds. The
damages come from the schemas that the files are read by, so that a new key is covered
the day it is added.
"""

import contextlib
import gc
import io
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections

from kdjax import recipes, train
from kdjax.runs import inventory, json_files, lock, messages

#: Contents that no run writes, whatever the file; None for no file.
CONTENTS = {
    "missing": None,
    "empty": b"",
    "truncated": b'{"a": ',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "nested": b'{"a": ' + b"[" * 100_000,
    "null": b"null",
    "a list": b"[1, 2]",
    "a text": b'"a"',
    "a number": b"3",
    "a huge number": b'{"a": ' + b"9" * 5_000 + b"}",
    "zeros": b"\0" * 64,
}

#: Schemas by the end of the file's path.
SCHEMAS = {
    "config.json": json_files.CONFIG,
    "result.json": json_files.RESULT,
    "inputs.json": json_files.INPUTS,
    "metrics.jsonl": json_files.METRICS,
    "files.json": json_files.MANIFEST,
    "metadata/metadata": json_files.METADATA,
    "metrics/metrics": json_files.ACCURACY,
    lock.HOLDER: json_files.HOLDER,
}


class Damage(NamedTuple):
    """What is done to a file.

    Attributes:
      kind: in words.
      content: the file's; None for no file.
      key: that is missing or of another type; None if all of the content is damaged.
    """

    kind: str
    content: bytes | None
    key: str | None = None


def damages(schema: json_files.Schema, content: bytes) -> Iterator[Damage]:
    """Yields what can happen to a JSON file of a schema, given what it should hold."""
    yield from (Damage(kind, other) for kind, other in CONTENTS.items())
    for path, kind in _keys(schema, json.loads(content)):
        for what, change in (("is missing", None), ("has another type", _other(kind))):
            if what == "is missing" and path[-1].endswith("?"):
                continue
            value = json.loads(content)
            *groups, last = [name.removesuffix("?") for name in path]
            inner = value
            for group in groups:
                inner = inner[group]
            if change is None:
                del inner[last]
            else:
                inner[last] = change
            key = ".".join([*groups, last])
            yield Damage(f"{key} {what}", json.dumps(value).encode(), key)


def _keys(
    schema: json_files.Schema, value: dict[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the keys that a schema names and an object has, as paths, with types."""
    for key, kind in schema.items():
        # One stands for all.
        name = next(iter(value), None) if key == "*" else key.removesuffix("?")
        if name not in value:
            continue
        shown = f"{name}?" if key == "*" else key
        yield (shown,), kind
        if isinstance(kind, dict) and isinstance(value[name], dict):
            for path, inner in _keys(kind, value[name]):
                yield (name, *path), inner


def _other(kind: Any) -> Any:
    """Returns a value of another type than one of a schema."""
    of_texts = kind in (str, str | None, list, dict) or isinstance(kind, list)
    return 3 if of_texts else ["\x1b[31m"]


class Answer(NamedTuple):
    """What the command says to a damage.

    Attributes:
      file: path within the run's folder, or the teacher's.
      damage: in words.
      status: of the command: 0 or 2; 1 for a traceback.
      lines: what it says, but for what every run says.
      seconds: until it ended.
    """

    file: str
    damage: str
    status: int
    lines: list[str]
    seconds: float


def answer(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[int, list[str], float]:
    """Runs the training as the command does; returns status, lines and seconds."""
    inventory._warn_once.cache_clear()
    # Each executable holds memory maps, of which Linux allows a process so many.
    jax.clear_caches()
    gc.collect()
    start, said, status, error = time.perf_counter(), io.StringIO(), 0, None
    with contextlib.redirect_stderr(said):
        try:
            train.train_and_evaluate(config, workdir)
        except (ValueError, OSError) as refusal:
            status, error = 2, f"kdjax: {messages.one_line(refusal)}"
        except Exception as fault:
            status, error = 1, f"TRACEBACK {type(fault).__name__}: {fault}"
    usual = ("kdjax: /", "  ", "wrn_10_1: epoch", "wrn_10_1: first", "wrn_10_1: res")
    lines = [
        line
        for line in said.getvalue().splitlines()
        if line.startswith("kdjax: warning") or not line.startswith(usual)
    ]
    lines += [error] if error else []
    return status, lines, time.perf_counter() - start


class Runs:
    """A finished run of a distilled student and its teacher, to be copied."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        teacher = recipes.alone("wrn_10_1,digits")
        student = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"kd": {}})
        student.teacher.checkpoint = str(folder / "copy" / "teacher")
        for config in (teacher, student):
            config.epochs = config.evaluate_every_epochs = 2
            config.checkpoint.every_steps = 2
        self.config = student
        train.train_and_evaluate(teacher, folder / "copy" / "teacher")
        train.train_and_evaluate(student, folder / "copy" / "run")
        shutil.copytree(folder / "copy", folder / "kept")

    def damaged(
        self,
        file: str,
        kind: str,
        damage: Callable[[pathlib.Path], None],
        finished: bool,
    ) -> Answer:
        """Damages a copy, and trains on; `finished` tells whether it has its result."""
        copy = self.folder / "copy"
        shutil.rmtree(copy)
        shutil.copytree(self.folder / "kept", copy)
        if not finished:
            (copy / "run" / "result.json").unlink()
        damage(copy)
        status, lines, seconds = answer(self.config, copy / "run")
        lines = [line.replace(f"{copy}/", "") for line in lines]
        return Answer(file, kind, status, lines, seconds)

    def answers(self) -> Iterator[Answer]:
        """Yields the answers to all damages."""
        kept = self.folder / "kept"
        step = max((kept / "run/checkpoints").iterdir(), key=lambda x: int(x.name))
        for path in sorted(kept.rglob("*")):
            file = path.relative_to(kept).as_posix()
            newest = "checkpoints" not in path.parts or step.name in path.parts
            for end, schema in SCHEMAS.items():
                if path.is_file() and newest and file.endswith(f"/{end}"):
                    yield from self._of_file(file, schema)
        for name, put in STRANGE.items():
            for folder in ("run", "teacher"):
                where = f"{folder}/checkpoints"

                def damage(copy, put=put, where=where):
                    put(copy / where, copy / where / step.name)

                yield self.damaged(where, name, damage, finished=False)

    def _of_file(self, file: str, schema: json_files.Schema) -> Iterator[Answer]:
        content = (self.folder / "kept" / file).read_bytes()
        first, newline, rest = content.partition(b"\n")
        of_lines = file.endswith(".jsonl")
        for damage in damages(schema, first if of_lines else content):
            kinds = {damage.kind: False}
            if "/checkpoints/" in file and not file.endswith("files.json"):
                # As of an old run; else its checksum is found to be another.
                kinds = {f"{damage.kind}, no manifest": False}
            if file == "run/result.json" or file == "run/metrics.jsonl":
                kinds = {f"{damage.kind}, finished": True, damage.kind: False}
            for kind, finished in kinds.items():

                def do(copy, damage=damage, kind=kind):
                    path = copy / file
                    if kind.endswith("no manifest"):
                        (path.parents[1] / "files.json").unlink()
                    path.parent.mkdir(exist_ok=True)
                    if damage.content is None:
                        path.unlink(missing_ok=True)
                    elif of_lines:
                        path.write_bytes(damage.content + newline + rest)
                    else:
                        path.write_bytes(damage.content)

                if not (file == "run/result.json" and not finished):
                    yield self.damaged(file, kind, do, finished)


#: What may lie among the checkpoints: functions of their folder and of the newest.
STRANGE: dict[str, Callable[[pathlib.Path, pathlib.Path], None]] = {
    "an empty folder beyond the end": lambda at, _: (at / "9999").mkdir(),
    "a copy beyond the end": lambda at, last: shutil.copytree(last, at / "9999"),
    "an empty folder of 30 digits": lambda at, _: (at / ("9" * 30)).mkdir(),
    "a copy of 30 digits": lambda at, last: shutil.copytree(last, at / ("9" * 30)),
    "a name with zeros": lambda at, last: os.rename(last, at / f"00{last.name}"),
    "an escape sequence": lambda at, _: (at / "\x1b[31mred\n").mkdir(),
    "a file": lambda at, _: (at / "9999").touch(),
    "digits of another script": lambda at, _: (at / "\u0669\u0669").mkdir(),
    "a link to itself": lambda at, _: (at / "9999").symlink_to(at / "9999"),
}


def main() -> None:
    """Prints the table."""
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            runs = Runs(pathlib.Path(folder))
        found = []
        for one in runs.answers():
            found.append(one)
            said = " / ".join(one.lines) or "goes on"
            print(
                f"{one.file}\t{one.damage}\t{said}\t{one.status}\t{one.seconds:.2f} s",
                flush=True,
            )
    refusals = [one for one in found if one.status == 2]
    slowest = max(refusals, key=lambda one: one.seconds)
    print(
        f"{len(found)} damages, {len(refusals)} refused, "
        f"{sum(one.status == 1 for one in found)} tracebacks; the slowest refusal took "
        f"{slowest.seconds:.2f} s: {slowest.file}, {slowest.damage}"
    )


if __name__ == "__main__":
    main()
