"""Run folders with known numbers, and the report's view of them."""

import json

from experiments import pairs, runs, summary

OVERHAUL = {"overhaul": {"weight": 0.001}}
RKD = {"rkd": {"distance_weight": 25.0, "angle_weight": 50.0}}
TAUGHT = {"methods": OVERHAUL, "teacher": "wrn_16_2"}


def write_run(
    folder,
    accuracy,
    *,
    seed=0,
    model="wrn_16_1",
    methods=None,
    teacher="",
    taught_by="",
    data="digits",
    epochs=3,
    validation=0.0,
    finished=True,
    before=(),
    **config,
):
    """Writes a run folder; `accuracy` is the fraction after the last epoch.

    `taught_by` is the path of the teacher's checkpoint; `validation` the fraction of a
    validation split, on which accuracies are a tenth lower; `before` names the phases
    before the training. What is not named here goes into the config as it is.
    """
    folder.mkdir(parents=True)
    config |= {
        "seed": seed,
        "model": model,
        "teacher": {"model": teacher, "checkpoint": str(taught_by)},
        "methods": methods or {},
        "data": {
            "name": data,
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
            "train_fraction": 0.2,
            "validation_fraction": validation,
        },
        "epochs": epochs,
        "batch_size": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    split, scale = ("validation", 0.9) if validation else ("test", 1)
    lines = [
        {"step": 5 * epoch, "epoch": float(epoch), "split": name, "accuracy": value}
        for epoch in range(1, epochs + 1)
        for name, value in (
            (split, scale * accuracy * epoch / epochs),
            ("train", 1.0),
        )
    ]
    if validation:
        lines.append(lines[-1] | {"split": "test", "accuracy": accuracy})
    write_metrics(folder, lines)
    for phase in before:
        (folder / phase).mkdir()
        write_metrics(folder / phase, [{"step": 1, "epoch": 1.0, "split": "train"}])
    result = {
        "final_test_accuracy": accuracy,
        "final_step": 5 * epochs,
        "best_test_accuracy": None if validation else accuracy + 0.01,
        f"best_{split}_accuracy": scale * accuracy + 0.01,
        "best_step": 10,
        "teacher_test_accuracy": 0.9611 if methods else None,
        "wall_s": 60.0 + seed,
        "images_per_s": 1000.0 + seed**2,
        "device_kind": "cpu",
        "num_devices": 2,
        "versions": {"jax": "1.2.3"},
        "git_revision": "abc123",
        "parameters": {
            "student": 175_066,
            "teacher": 703_284 if methods else None,
            "method": dict.fromkeys(methods or {}, 3072),
        },
        "phases": {phase: {} for phase in (*before, "train")},
        "images": {"train": 288, "test": 360},
        "config": config,
    }
    if finished:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_metrics(folder, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def write_pair(root, teacher="wrn_16_2", student="wrn_16_1", data="digits"):
    """Writes three seeds of teacher, baseline and two methods.

    Over the baseline (90, 91, 92 %), overhaul gains 1, 2 and 3 points and overhaul
    with RKD -1, 0 and 2.
    """
    root = root / data
    for seed in range(3):
        path = root / f"teachers/{teacher}/seed_{seed}"
        if not path.exists():
            write_run(path, 0.95 + seed / 100, seed=seed, model=teacher, data=data)
        common = {"seed": seed, "model": student, "teacher": teacher, "data": data}
        common["taught_by"] = root / f"teachers/{teacher}/seed_0/checkpoints/15"
        scratch = 0.90 + seed / 100
        folder = root / f"{teacher}-{student}"
        write_run(folder / f"none/seed_{seed}", scratch, **common)
        for methods, gain in (
            (OVERHAUL, (0.01, 0.02, 0.03)),
            (RKD | OVERHAUL, (-0.01, 0.0, 0.02)),
        ):
            path = folder / "+".join(methods) / f"seed_{seed}"
            write_run(path, scratch + gain[seed], methods=methods, **common)


def blocks_of(root):
    found, unusable = runs.read_runs(root)
    blocks, left_out = pairs.arrange(found)
    assert not unusable
    assert not left_out
    return blocks


def records_of(root):
    """Returns the record of each row by its label."""
    return {
        row.label: summary.record(block, row)
        for block in blocks_of(root)
        for row in block.rows
    }
