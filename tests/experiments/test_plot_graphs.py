"""Pictures of attention graphs, of one small run of MHGD and of what is left of it."""

import contextlib
import functools
import io
import json
import pathlib
import shutil
import struct
import types
from typing import NamedTuple

import jax
import numpy as np
import pytest

from experiments import plot_graphs
from kdjax import distill, models, phases, recipes, rngs, train
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.forward import forward
from kdjax.runs import workdirs
from kdjax.runs.checkpoint import Checkpoints
from tests import commands, small_runs

HEADS = 2
STEPS = 3


class Drawn(NamedTuple):
    """What the command did: the files before, what it said and what it restored."""

    before: dict
    status: int
    out: str
    restored: tuple


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    with small_runs.shortcuts():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a finished run whose stages have to be connected."""
    teacher, workdir = (tmp_path_factory.mktemp(name) for name in ("teacher", "run"))
    chosen = {"heads": HEADS, "gradient": "projection", "algorithm": "gram"}
    config = recipes.distillation(
        "wrn_10_1-wrn_10_2,digits", {"mhgd": chosen | {"widths": "connect"}}
    )
    config.teacher.checkpoint = str(teacher)
    config.epochs = config.pretrain.epochs = config.evaluate_every_epochs = 1
    workdirs.create(teacher, recipes.alone("wrn_10_1,digits"))
    knowledge = init("wrn_10_1", seed=1)
    save(teacher, 1, {name: {"student": tree} for name, tree in knowledge.items()})
    workdirs.write_result(teacher, small_runs.RESULT)
    assert train.train_and_evaluate(config, workdir)["final_step"] == STEPS
    return workdir


@pytest.fixture(scope="module")
def drawn(run):
    """Lets the command draw the run."""
    found, restore = [], plot_graphs.restore
    before = listing(run)

    def remember(workdir):
        found.append(restore(workdir))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        patch.setattr(plot_graphs, "restore", remember)
        with contextlib.redirect_stdout(out):
            status = plot_graphs.main([f"--workdir={run}", "--images=30"])
        return Drawn(before, status, out.getvalue(), found[0])


@pytest.fixture
def copy(run, drawn, tmp_path, monkeypatch):
    """A copy of the run, to be damaged; its experiment is not built again."""
    experiment, _ = drawn.restored
    monkeypatch.setattr(train, "build_experiment", lambda config: experiment)
    ignored = shutil.ignore_patterns("graphs")
    return shutil.copytree(run, tmp_path / "copy", ignore=ignored)


def init(network, seed):
    """Makes a network's variables as a run does, to the last bit."""
    network, image = models.build(network, 10), np.zeros((1, 8, 8, 3), np.float32)
    make = jax.jit(lambda key: network.init(key, image, train=False))
    return make(rngs.key(seed, "student"))


def configure(workdir, **changes):
    """Changes the configuration that a work directory records."""
    path = workdir / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def saved(folder):
    """Returns the newest state of a phase as nested dictionaries."""
    with Checkpoints(folder) as checkpoints:
        return jax.device_get(checkpoints.restore_as_saved())


def save(folder, step, state):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(step, state | {"step": np.int32(step)}, {})


def part(state, *path):
    """Returns the parameters and the statistics of a part of a state."""
    found = {collection: state[collection] for collection in ("params", "batch_stats")}
    for name in path:
        found = {collection: tree[name] for collection, tree in found.items()}
    return found


def listing(folder):
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


command = functools.partial(commands.run, plot_graphs.main)
refused = functools.partial(commands.refused, plot_graphs.main)


def losses(workdir):
    """Computes the method's own loss on three images of every class.

    Returns:
      Of the untrained student and of the newest: the terms of both pairs.
    """
    config = json.loads((workdir / "config.json").read_text())
    test = digits.load()["test"]
    index = np.concatenate([np.flatnonzero(test.label == k)[:3] for k in range(10)])
    pixels = {name: config["data"][name] for name in ("mean", "std")}
    image = normalization.normalize(test.image[index], **pixels)
    method = distill.build(config["methods"])["mhgd"]
    precomputed = {"pretrained": part(saved(workdir / "pretrain"), "methods", "mhgd")}
    student, teacher = (models.build(name, 10) for name in ("wrn_10_2", "wrn_10_1"))
    knowledge = part(saved(pathlib.Path(config["teacher"]["checkpoint"])), "student")
    by_batch = config["teacher"]["batch_norm"] == "batch"

    @jax.jit
    def loss(variables, connectors):
        ours, _ = forward(student, variables, image, train=True)
        theirs, _ = forward(teacher, knowledge, image, train=by_batch)
        if connectors is None:
            connectors = method.init(rngs.key(0, "methods/mhgd"), ours, theirs)
        terms, _ = method.loss(connectors, precomputed, ours, theirs, None)
        return [terms["pair_1"].mean(), terms["pair_2"].mean()]

    state = saved(workdir)
    return (
        loss(init("wrn_10_2", seed=0), None),
        loss(part(state, "student"), part(state, "methods", "mhgd")),
    )


def test_pictures_and_table(run, drawn):
    assert drawn.status == 0
    pictures = [run / "graphs" / f"pair_{pair}.png" for pair in (1, 2)]
    after = listing(run)
    assert set(after) == {*drawn.before, *pictures}
    assert drawn.before.items() <= after.items()
    for picture in pictures:
        content = picture.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert 800 <= width <= 1000
        assert 300 * HEADS <= height <= 400 * HEADS
        assert len(content) > 20_000
    assert drawn.out.startswith(
        f"30 test images; the student before, and after step {STEPS}; KL in nats, sum "
        f"over {HEADS} heads\n"
    )
    rows = [line.split() for line in drawn.out.splitlines()[-2:]]
    assert [(row[0], row[3]) for row in rows] == [
        ("pair_1", str(pictures[0])),
        ("pair_2", str(pictures[1])),
    ]
    found = [[float(row[column]) for row in rows] for column in (1, 2)]
    np.testing.assert_allclose(found, losses(run), atol=1e-4)
    assert all(abs(first - last) > 1e-3 for first, last in zip(*found, strict=True))


def test_graphs_and_their_divergences(drawn):
    experiment, states = drawn.restored
    image = np.asarray(experiment.data.test.image)[:30]
    # There is no axis of devices here for batch norms to be synchronized over.
    network = experiment.teacher.network.clone(axis_name="devices")
    synchronized = types.SimpleNamespace(
        config=experiment.config,
        student=experiment.student.clone(axis_name="devices"),
        teacher=experiment.teacher._replace(network=network),
    )
    for edge, divergence in plot_graphs.compare(synchronized, states, image):
        assert edge.shape == (3, HEADS, 30, 30)
        np.testing.assert_allclose(edge.sum(-1), 1, rtol=1e-5)
        # The first is the teacher's, the others are taken from it.
        ratio = np.log(edge / edge[:1])
        expected = np.mean(np.sum(edge * ratio, -1), -1)
        np.testing.assert_allclose(divergence, expected, atol=1e-6)
        assert np.all(divergence[0] == 0)
        assert np.all(divergence[1:] > 0)


def test_distilling_first_has_a_folder_of_its_own(run, copy, monkeypatch):
    """The connectors are those of the distillation, the student is the newest."""
    # The experiment has another phase.
    monkeypatch.undo()
    (copy / "distill_first").mkdir()
    (copy / "checkpoints").rename(copy / "distill_first" / "checkpoints")
    config = json.loads((copy / "config.json").read_text())
    configure(copy, distill_first=config["distill_first"] | {"epochs": 1})
    experiment, (_, before, after) = plot_graphs.restore(copy)
    assert [phase.name for phase in phases.plan(experiment)] == [
        "pretrain",
        "distill_first",
        "train",
    ]
    distilled = saved(run)
    jax.tree.map(np.testing.assert_array_equal, after.params, distilled["params"])

    start = jax.device_get({"params": before.params, "batch_stats": before.batch_stats})
    untaught = {name: tree | {"methods": {}} for name, tree in start.items()}
    save(copy, 7, distilled | untaught)
    monkeypatch.setattr(train, "build_experiment", lambda config: experiment)
    _, (_, _, after) = plot_graphs.restore(copy)
    assert after.step == 7
    for collection in ("params", "batch_stats"):
        wanted = {
            "student": start[collection]["student"],
            "methods": distilled[collection]["methods"],
        }
        found = getattr(after, collection)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


# Which images.


def test_images_are_even_and_sorted_by_class():
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 9))
    for count in (2, 10, 33, 90):
        index = plot_graphs.choose(label, count)
        assert len(set(index)) == count
        assert np.all(np.diff(label[index]) >= 0)
        sizes = np.bincount(label[index], minlength=20)
        assert sizes[:10].max() - sizes[:10].min() <= 1
        assert not sizes[10:].any()


def test_too_many_images():
    with pytest.raises(ValueError, match=r"--images=4 is not from 2 to 3"):
        plot_graphs.choose(np.array([0, 1, 1]), 4)


# What is drawn.


def test_panels(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plot_graphs.Figure, "savefig", lambda f, _: figures.append(f))
    random = np.random.default_rng(0)
    edge = random.dirichlet(np.ones(6), (3, HEADS, 6)) + 0.01
    divergence = np.array([[0, 0], [0.25, 0.5], [0.125, 0.0625]])
    label = np.array([0, 0, 3, 3, 3, 9])
    plot_graphs.draw(edge, divergence, label, tmp_path / "unused.png", "title")
    *panels, bar = figures[0].axes
    assert [panel.get_title() for panel in panels] == [
        "teacher",
        "student before: KL 0.250",
        "student after: KL 0.125",
        "teacher",
        "student before: KL 0.500",
        "student after: KL 0.062",
    ]
    norms = {panel.images[0].norm for panel in panels}
    assert len(norms) == 1
    (norm,) = norms
    assert norm(1) == pytest.approx(0.5)
    for place, panel in enumerate(panels):
        head, column = divmod(place, 3)
        drawn = np.asarray(panel.images[0].get_array())
        np.testing.assert_allclose(drawn, 6 * edge[column, head])
        assert norm.vmin <= drawn.min()
        assert drawn.max() <= norm.vmax
        assert list(panel.get_xticks()) == list(panel.get_yticks()) == [0.5, 3, 5]
        borders = [line.get_xdata()[0] for line in panel.lines[1::2]]
        assert borders == [1.5, 4.5]
    outer = panels[HEADS * 3 - 3]
    for labels in (outer.get_xticklabels(), outer.get_yticklabels()):
        assert [text.get_text() for text in labels] == ["0", "3", "9"]
    assert "1/6" in bar.get_xlabel()


def test_wrong_number_of_heads(tmp_path, drawn, capsys, monkeypatch):
    monkeypatch.setattr(plot_graphs, "restore", lambda workdir: drawn.restored)
    for heads in (0, HEADS + 1):
        line = refused(capsys, f"--workdir={tmp_path}", f"--heads={heads}")
        assert line == f"--heads={heads} is not from 1 to {HEADS}"
    assert not list(tmp_path.iterdir())


# What is no finished run.


def test_no_run(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        line = refused(capsys, f"--workdir={folder}")
        assert line == f"workdir={folder} is not the work directory of a run"
    assert not list(tmp_path.iterdir())


def damage_methods(workdir):
    configure(workdir, methods={"overhaul": {}})
    return "has methods=['overhaul'], not mhgd"


def damage_preparation(workdir):
    shutil.rmtree(workdir / "pretrain")
    return "has no checkpoint of the phase pretrain yet"


def cut_preparation_short(workdir):
    state = saved(workdir / "pretrain")
    shutil.rmtree(workdir / "pretrain" / "checkpoints")
    save(workdir / "pretrain", STEPS - 1, state)
    return f"is at step {STEPS - 1} of {STEPS} of the phase pretrain"


def damage_training(workdir):
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").mkdir()
    return "has no checkpoint of the student yet"


@pytest.mark.parametrize(
    "damage",
    [damage_methods, damage_preparation, cut_preparation_short, damage_training],
)
def test_a_run_that_has_nothing_to_show(copy, capsys, damage):
    reason = damage(copy)
    before = listing(copy)
    assert refused(capsys, f"--workdir={copy}") == f"workdir={copy} {reason}"
    assert listing(copy) == before
