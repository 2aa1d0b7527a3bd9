"""Draws the attention graphs of a run of MHGD, before and after the distillation.

    python -m experiments.plot_graphs --workdir=runs/mhgd

Reads the work directory of a run that is finished, or stopped in the training of its
student; not of one under way. Each pair of stages gets a picture, `graphs/pair_1.png`
and so on in it (or in `--out`), of one batch of test images sorted by class. A row is
a head: the teacher's graph, the student's before distillation and the student's in
the newest checkpoint. KL(student || teacher) is printed in nats, the mean over the
images: of each head in the picture, of all heads together in the table.

The images are taken evenly from the classes, the first ten if there are more, are not
augmented and lie on one device. The teacher's batch norms use what `teacher.batch_norm`
says; the student's use the statistics of the batch, before and after, since that is
what the loss compares and an untrained student has no others.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tabulate
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from kdjax import distill, phases, train
from kdjax.cli import command_line, home
from kdjax.config import fields
from kdjax.data import normalization
from kdjax.forward import forward
from kdjax.losses import mhgd
from kdjax.runs import checkpoint, console, workdirs
from kdjax.setup import Experiment
from kdjax.train_state import TrainState

_METHOD = "mhgd"
_IMAGES, _CLASSES = 64, 10

#: Edges below are drawn as this; without smoothing some are 0.
_LEAST = 1e-6


def restore(workdir: Path) -> tuple[Experiment, list[TrainState]]:
    """Builds the experiment of a run and reads what was learned in it.

    Returns:
      The experiment; the states after pretraining, before distillation and now.

    Raises:
      ValueError: if there is no run of the method, or it did not come far enough.
      FileNotFoundError: if the data set is not prepared.
    """
    where = f"workdir={workdir}"
    if (saved := workdirs.read_config(workdir)) is None:
        raise ValueError(f"{where} is not the work directory of a run")
    if _METHOD not in (names := sorted(saved["methods"])):
        raise ValueError(f"{where} has methods={names}, not {_METHOD}")
    if (pretrained := _newest(workdir / "pretrain")) is None:
        raise ValueError(f"{where} has no checkpoint of the phase pretrain yet")
    config = fields.default()
    config.update(saved)
    experiment = train.build_experiment(config)
    pretrain, distillation, *task = phases.plan(experiment)
    if (step := pretrained.step) < (steps := pretrain.total_steps):
        raise ValueError(f"{where} is at step {step} of {steps} of the phase pretrain")
    if not (after := _newest(workdir / distillation.name if task else workdir)):
        raise ValueError(f"{where} has no checkpoint of the student yet")
    if task and (newest := _newest(workdir)):
        # The task alone has left what the method learned as it was.
        newest.params["methods"] = after.params["methods"]
        newest.batch_stats["methods"] = after.batch_stats["methods"]
        after = newest
    before, _ = phases.initial_state(distillation, pretrained)
    before = jax.device_get(before.replace(opt_state=None))
    return experiment, [pretrained, before, after]


def _newest(folder: Path) -> TrainState | None:
    """Reads the newest checkpoint of a phase, but for the optimizer, if it has one."""
    # Opening checkpoints that are not there would create their folder.
    if not (folder / checkpoint.FOLDER).is_dir():
        return None
    with checkpoint.Checkpoints(folder) as checkpoints:
        if checkpoints.latest_step is None:
            return None
        saved = jax.device_get(checkpoints.restore_as_saved())
    return TrainState(**saved | {"opt_state": None})


def choose(label: np.ndarray, count: int) -> np.ndarray:
    """Chooses images evenly from the classes, the first ten if there are more.

    Returns:
      Their indices, by class and then in order, [count].

    Raises:
      ValueError: if there are not so many.
    """
    indices = [np.flatnonzero(label == name) for name in np.unique(label)[:_CLASSES]]
    rank = np.concatenate([np.arange(len(of_class)) for of_class in indices])
    if not 2 <= count <= len(rank):
        raise ValueError(f"--images={count} is not from 2 to {len(rank)}")
    return np.concatenate(indices)[np.sort(np.argsort(rank, kind="stable")[:count])]


def compare(
    experiment: Experiment, states: Sequence[TrainState], image: np.ndarray
) -> list[tuple[np.ndarray, ...]]:
    """Relates uint8 images [B, H, W, 3] as the teacher and the student do.

    Returns:
      At every pair of stages the graphs, [3, A, B, B], and their divergences from the
      teacher's in nats, means over the images, [3, A]: of teacher, before and after.
    """
    config = experiment.config
    # On one device, where there is nothing to gather and no axis to do it over.
    method = distill.build(config.methods, dtype=jnp.dtype(config.dtype))[_METHOD]
    student = experiment.student.clone(axis_name=None)
    teacher = experiment.teacher.local
    train = config.teacher.batch_norm == "batch"

    @jax.jit
    def relate(state, pretrained, teacher_variables, image):
        image = normalization.normalize(
            image, mean=config.data.mean, std=config.data.std
        )
        variables = _variables(state, "student")
        outputs, _ = forward(student, variables, image, train=True)
        target, _ = forward(teacher, teacher_variables, image, train=train)
        learned, heads = (
            _variables(x, "methods", _METHOD) for x in (state, pretrained)
        )
        vectors = _vectors(method, learned, outputs, target)
        return [method.logits(heads, side) for side in vectors]

    frozen = states[0], experiment.teacher.variables, image
    (before, goal), (after, _) = (relate(state, *frozen) for state in states[1:])
    pairs = zip(goal, before, after, strict=True)
    return [_graphs(logits, method.smoothing) for logits in pairs]


def _variables(state: TrainState, *path: str) -> dict[str, dict]:
    found = {"params": state.params, "batch_stats": state.batch_stats}
    for name in path:
        found = {collection: tree[name] for collection, tree in found.items()}
    return found


def _vectors(method, learned, student, teacher) -> list[list[jax.Array]]:
    """Compresses each stage to a vector an image: the student's and the teacher's."""
    *vectors, _ = method.vectors(learned, student, teacher)
    return [[x[..., 0] for x in side] for side in vectors]


def _graphs(logits: Sequence[jax.Array], smoothing: str) -> tuple[np.ndarray, ...]:
    teacher, edge, divergence = logits[0], [], []
    for own in logits:
        edge.append(mhgd.graph(own, teacher, smoothing=smoothing))
        heads = zip(own[:, None], teacher[:, None], strict=True)
        kl = [mhgd.graph_divergence(*x, smoothing=smoothing) for x in heads]
        divergence.append(np.mean(kl, axis=1))
    return np.asarray(edge), np.asarray(divergence)


def draw(
    edge: np.ndarray, divergence: np.ndarray, label: np.ndarray, file: Path, title: str
) -> None:
    """Writes the graphs of one pair of stages as a PNG.

    Args:
      edge: the graphs, as `compare` returns them.
      divergence: as `compare` returns them, of each head.
      label: class of each image, in order, [B].
      file: where to write; overwritten if it exists.
      title: of the picture.
    """
    _, heads, size, _ = edge.shape
    edge = np.maximum(edge, _LEAST)
    # Logarithms, and as far up as down from a graph whose edges are all equal.
    most = max(size * edge.max(), 1 / (size * edge.min()))
    style = {"cmap": "RdBu_r", "norm": LogNorm(1 / most, most)}
    figure = Figure(figsize=(7.8, 2.5 * heads + 1.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(heads, 3, squeeze=False)
    classes = np.unique(label)
    centers = [np.flatnonzero(label == name).mean() for name in classes]
    for (head, column), panel in np.ndenumerate(panels):
        picture = panel.imshow(size * edge[column, head], **style)
        for border in np.flatnonzero(np.diff(label)) + 0.5:
            panel.axhline(border, color="black", linewidth=0.4)
            panel.axvline(border, color="black", linewidth=0.4)
        name = ("teacher", "student before: KL {:.3f}", "student after: KL {:.3f}")
        panel.set_title(name[column].format(divergence[column, head]), fontsize=10)
        panel.set_xticks(centers, classes, fontsize=8)
        panel.set_yticks(centers, classes, fontsize=8)
        panel.tick_params(length=0, labelleft=not column, labelbottom=head == heads - 1)
        panel.set_ylabel("" if column else f"head {head + 1}\nclass at the back")
        panel.set_xlabel("" if head < heads - 1 else "class at the front")
    ticks = {"ticks": np.geomspace(1 / most, most, 5), "format": "{x:.2f}"}
    place = {"location": "bottom", "aspect": 50, "pad": 0.01}
    bar = figure.colorbar(picture, ax=panels, **place, **ticks)
    bar.set_label(f"edge, in units of 1/{size}: that of a graph without structure")
    bar.minorticks_off()
    figure.savefig(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws and prints; returns the exit status, 2 if there is nothing to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.plot_graphs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workdir", type=home.argument, required=True, help="of the run"
    )
    parser.add_argument(
        "--out", type=home.argument, help="folder; default: WORKDIR/graphs"
    )
    parser.add_argument("--images", type=int, help="default: a batch, 64 at most")
    parser.add_argument("--heads", type=int, help="how many to draw; default: all")
    try:
        print(_plot(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        console.print_error("plot_graphs", error)
        return 2
    return 0


def _plot(flags: argparse.Namespace) -> str:
    """Draws what the flags say and returns what there is to print."""
    experiment, states = restore(flags.workdir)
    config, test = experiment.config, experiment.data.test
    heads, most = flags.heads, config.methods[_METHOD].heads
    if heads is not None and not 1 <= heads <= most:
        raise ValueError(f"--heads={heads} is not from 1 to {most}")
    images = min(_IMAGES, config.batch_size) if flags.images is None else flags.images
    index = choose(label := np.asarray(test.label), images)
    found = compare(experiment, states, test.pixels(index))
    out = flags.out or flags.workdir / "graphs"
    out.mkdir(parents=True, exist_ok=True)
    networks = f"{config.teacher.model} \N{RIGHTWARDS ARROW} {config.model}"
    rows = []
    for number, (edge, divergence) in enumerate(found, start=1):
        file = out / f"pair_{number}.png"
        _, before, after = (f"{kl:.4f}" for kl in divergence.sum(axis=1))
        rows.append((file.stem, before, after, file))
        title = (
            f"{networks}, {file.stem}\nKL(student || teacher), sum over {most} heads, "
            f"nats: {before} before, {after} after"
        )
        draw(edge[:, :heads], divergence[:, :heads], label[index], file, title)
    headers = ("pair", "KL before", "KL after", "picture")
    return (
        f"{images} test images; the student before, and after step "
        f"{states[-1].step}; KL in nats, sum over {most} heads\n\n"
        + tabulate.tabulate(rows, headers, disable_numparse=True)
    )


if __name__ == "__main__":
    command_line.run(main)
