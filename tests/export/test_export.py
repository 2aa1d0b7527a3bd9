"""Exported programs of one small run with its teacher, and what is refused."""

import functools
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from kdjax import models, recipes, train
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.export import __main__ as export
from kdjax.export import formats
from kdjax.runs import trained, workdirs
from kdjax.runs.checkpoint import Checkpoints
from tests import commands, small_runs

HERE = pathlib.Path(__file__).parents[2]
STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    """Those of any small run, and times less."""
    with small_runs.shortcuts() as patch:
        patch.setattr(formats, "CALLS", 4)
        patch.setattr(export, "_IMAGES", 12)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a finished run; the teacher's pixels are its own."""
    teacher, workdir = (tmp_path_factory.mktemp(name) for name in ("teacher", "run"))
    alone = recipes.alone("resnet8,digits")
    alone.data.mean, alone.data.std = (10.0, 20.0, 30.0), (40.0, 50.0, 60.0)
    workdirs.create(teacher, alone)
    network = models.build("resnet8", 10)
    image = jnp.zeros((1, 8, 8, 3))
    made = jax.jit(lambda key: network.init(key, image, train=False))(jax.random.key(1))
    with Checkpoints(teacher) as checkpoints:
        state = {name: {"student": tree} for name, tree in made.items()}
        checkpoints.save(7, state | {"step": np.int32(7)}, {})
    config = recipes.distillation("resnet8-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = str(teacher)
    config.data.mean = (70.0, 80.0, 90.0)
    config.epochs = config.evaluate_every_epochs = 1
    assert train.train_and_evaluate(config, workdir)["final_step"] == STEPS
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, to be damaged."""
    ignored = shutil.ignore_patterns("student.*")
    return shutil.copytree(run, tmp_path / "copy", ignore=ignored)


@pytest.fixture(params=["stablehlo", "onnx"])
def form(request):
    """Each format that can be written here."""
    if request.param == "onnx":
        pytest.importorskip("jax2onnx")
    return request.param


command = functools.partial(commands.run, export.main)
refused = functools.partial(commands.refused, export.main)


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def expected(workdir, image):
    """Applies the network of a run in Flax, with the pixels of its own."""
    found = trained.load(workdir)
    data = found.config["data"]
    network = models.build(found.config["model"], 10)
    image = normalization.normalize(image, mean=data["mean"], std=data["std"])
    return np.asarray(network.apply(found.variables, image, train=False)[0])


def table(out):
    """Reads the table: by row, the cells of teacher and student."""
    lines = [line for line in out.splitlines() if line.count("  ") >= 2]
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    return {row[0]: row[1:] for row in rows if not row[0].startswith("-")}


def onnx_session(content):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(content)


# What is written.


@pytest.mark.parametrize("folded", ["true", "false"])
def test_program_is_the_student(run, tmp_path, capsys, form, folded):
    out = tmp_path / "a file"
    before = listing(run)
    status, said, _ = command(
        capsys,
        f"--workdir={run}",
        f"--format={form}",
        f"--out={out}",
        f"--fold_batch_norm={folded}",
    )
    assert status == 0
    assert listing(run) == before
    assert list(tmp_path.iterdir()) == [out]
    image = digits.load()["test"].image[20:31]
    wanted = expected(run, image)
    content = out.read_bytes()
    if form == "stablehlo":
        loaded = jax_export.deserialize(bytearray(content))
        assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
        (given,) = loaded.in_avals
        assert (str(given.shape[0]), given.shape[1:]) == ("B", (8, 8, 3))
        assert given.dtype == np.uint8
        call = loaded.call
    else:
        session = onnx_session(content)
        (given,), (answer,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type) == ("image", "tensor(uint8)")
        assert given.shape == ["B", 8, 8, 3]
        assert (answer.name, answer.shape) == ("logits", ["B", 10])

        def call(image):
            return session.run(["logits"], {"image": image})[0]

    for batch in (1, 5, 11):
        logits = np.asarray(call(image[:batch]))
        assert logits.dtype == np.float32
        most = np.max(np.abs(wanted))
        np.testing.assert_allclose(logits, wanted[:batch], atol=1e-5 * most)

    assert said.startswith(
        f"{out}: the student after step {STEPS}, the last checkpoint of a run that is "
        "finished\n"
    )
    assert f"Batch norms are {'folded' if folded == 'true' else 'kept'}." in said
    assert "4 calls with 1 image [" in said
    assert "on 12 test images" in said
    rows = table(said)
    result = json.loads((run / "result.json").read_text())
    assert rows["network"] == ["resnet8", "wrn_10_1"]
    assert rows["file, bytes"][1] == f"{len(content):,}"
    # As in the table of the README, and by hand in the tests of the counts.
    assert rows["parameters"] == ["78,042", "77,850"]
    assert rows["multiply-adds"][1] == "781,952"
    assert rows["test accuracy"] == [
        f"{result[name]:.2%}"
        for name in ("teacher_test_accuracy", "final_test_accuracy")
    ]
    for cell in rows["latency, ms"]:
        median, low, high = map(float, re.findall(r"[\d.]+", cell))
        assert 0 < low <= median <= high
    assert all(0 <= float(cell) < 1e-5 for cell in rows["largest difference"])


def test_the_teacher_has_its_own_pixels(run, tmp_path, capsys, monkeypatch):
    """It is written as it was trained, and each is checked against its own network."""
    written, write = {}, export.write

    def remember(found, image, file, **settings):
        row = write(found, image, file, **settings)
        written[found.config["model"]] = file.read_bytes()
        return row

    monkeypatch.setattr(export, "write", remember)
    flags = (f"--workdir={run}", "--format=stablehlo", f"--out={tmp_path / 'out'}")
    assert command(capsys, *flags)[0] == 0
    image = digits.load()["test"].image[:3]
    teacher = json.loads((run / "config.json").read_text())["teacher"]["checkpoint"]
    for name, workdir in (("wrn_10_1", run), ("resnet8", pathlib.Path(teacher))):
        logits = jax_export.deserialize(bytearray(written[name])).call(image)
        np.testing.assert_allclose(logits, expected(workdir, image), atol=1e-4)


def test_needs_nothing_of_kdjax(run, tmp_path, capsys):
    out = tmp_path / "student.stablehlo"
    flags = (f"--workdir={run}", "--format=stablehlo", f"--out={out}")
    assert command(capsys, *flags)[0] == 0
    image = digits.load()["test"].image[:4]
    np.save(tmp_path / "image.npy", image)
    # The lines of the module's docstring.
    lines = re.findall(r"^    ((?:from jax|program|logits =).*)$", export.__doc__, re.M)
    script = "\n".join(
        [
            "import sys, numpy",
            "image = numpy.load('image.npy')",
            *lines,
            "numpy.save('logits.npy', logits)",
            "assert not {'kdjax', 'flax'} & set(sys.modules)",
        ]
    )
    assert len(lines) == 3
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, expected(run, image), atol=1e-4)


def test_default_name_and_overwriting(copy, capsys):
    flags = (f"--workdir={copy}", "--format=stablehlo")
    out = copy / "student.stablehlo"
    assert command(capsys, *flags)[0] == 0
    before = listing(copy)
    assert refused(capsys, *flags) == f"--out={out} exists: --overwrite replaces it"
    assert listing(copy) == before
    first = out.read_bytes()
    out.write_bytes(b"another file")
    assert command(capsys, *flags, "--overwrite")[0] == 0
    assert len(out.read_bytes()) == len(first)


def test_fixed_batch(run, tmp_path, capsys):
    out = tmp_path / "out"
    flags = (f"--workdir={run}", "--format=stablehlo", f"--out={out}")
    status, said, _ = command(capsys, *flags, "--batch_size=5")
    assert status == 0
    assert "4 calls with 5 images [" in said
    assert "on 15 test images" in said
    loaded = jax_export.deserialize(bytearray(out.read_bytes()))
    assert loaded.in_avals[0].shape == (5, 8, 8, 3)


def test_run_that_is_not_finished(copy, capsys):
    (copy / "result.json").unlink()
    status, said, _ = command(capsys, f"--workdir={copy}", "--format=stablehlo")
    assert status == 0
    assert (
        f"after step {STEPS}, the last checkpoint of a run that has no result" in said
    )
    assert table(said)["test accuracy"] == ["\N{EM DASH}"] * 2


def test_without_teacher(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    config["teacher"]["checkpoint"] = ""
    (copy / "config.json").write_text(json.dumps(config))
    flags = (f"--workdir={copy}", "--format=stablehlo", "--overwrite")
    status, said, _ = command(capsys, *flags)
    assert (status, table(said)["network"]) == (0, ["wrn_10_1"])
    assert "teacher" not in said.partition("\n")[2]

    config["teacher"]["checkpoint"] = str(copy / "moved")
    (copy / "config.json").write_text(json.dumps(config))
    status, said, _ = command(capsys, *flags)
    assert (status, table(said)["network"]) == (0, ["wrn_10_1"])
    assert said.endswith(
        "The student is written, the teacher is not known: teacher.checkpoint="
        f"'{copy / 'moved'}' is not the work directory of a run\n"
    )


# What is refused.


def test_another_program_is_refused(run, tmp_path, capsys, monkeypatch):
    fold = export.fold.fold_batch_norms

    def wrong(*given):
        apply, *rest = fold(*given)
        return lambda variables, image: apply(variables, image) * 1.001, *rest

    monkeypatch.setattr(export.fold, "fold_batch_norms", wrong)
    line = refused(
        capsys, f"--workdir={run}", "--format=stablehlo", f"--out={tmp_path / 'out'}"
    )
    assert re.fullmatch(
        r"on 12 test images the stablehlo program of wrn_10_1 differs from it by "
        r"1\.0e-03 of the largest logit, more than 1e-04: not written",
        line,
    )
    assert not list(tmp_path.iterdir())


def test_not_a_number_is_refused(run, tmp_path, capsys, monkeypatch):
    wrong = formats.FORMATS["stablehlo"]._replace(
        load=lambda content: lambda image: np.full((len(image), 10), np.nan)
    )
    monkeypatch.setitem(formats.FORMATS, "stablehlo", wrong)
    line = refused(
        capsys, f"--workdir={run}", "--format=stablehlo", f"--out={tmp_path / 'out'}"
    )
    assert "differs from it by nan" in line
    assert not list(tmp_path.iterdir())


def test_exporter_that_fails(run, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise NotImplementedError("no such operation\nand much more")

    wrong = formats.FORMATS["stablehlo"]._replace(write=fail)
    monkeypatch.setitem(formats.FORMATS, "stablehlo", wrong)
    flags = (f"--workdir={run}", "--format=stablehlo", f"--out={tmp_path / 'out'}")
    line = "wrn_10_1 cannot be written as stablehlo: no such operation"
    assert refused(capsys, *flags) == f"{line}; --batch_size=1 may help"
    assert refused(capsys, *flags, "--batch_size=1") == line
    assert not list(tmp_path.iterdir())


def test_no_run(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        line = refused(capsys, f"--workdir={folder}", "--format=stablehlo")
        assert line == f"workdir='{folder}' is not the work directory of a run"
    assert not list(tmp_path.iterdir())


def test_no_checkpoint(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    before = listing(copy)
    line = refused(capsys, f"--workdir={copy}", "--format=stablehlo")
    assert line.startswith(f"workdir='{copy}' holds no checkpoint yet")
    assert listing(copy) == before


def test_no_place_to_write(run, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    flags = (f"--workdir={run}", "--format=stablehlo")
    for out, reason in (
        (tmp_path / "nowhere" / "out", "cannot be written: No such file or directory"),
        (file / "out", "cannot be written: Not a directory"),
        (tmp_path, "is a folder"),
    ):
        line = refused(capsys, *flags, f"--out={out}", "--overwrite")
        assert line == f"--out={out} {reason}"
    assert list(tmp_path.iterdir()) == [file]


def test_wrong_batch_size(run, capsys):
    flags = (f"--workdir={run}", "--format=stablehlo", "--batch_size=0")
    assert refused(capsys, *flags) == "--batch_size=0 is less than 1"


@pytest.mark.parametrize("missing", ["jax2onnx", "onnxruntime"])
def test_package_that_is_missing(run, tmp_path, capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    line = refused(
        capsys, f"--workdir={run}", "--format=onnx", f"--out={tmp_path / 'out'}"
    )
    (exporter,) = re.findall(
        r"^jax2onnx\S+", (HERE / "requirements-onnx.txt").read_text(), re.MULTILINE
    )
    # Without the extra both are.
    wanted = missing if importlib.util.find_spec("jax2onnx") else "jax2onnx"
    assert line == (
        f"--format=onnx needs {wanted}: pip install '{exporter}' onnxruntime"
    )
    assert not list(tmp_path.iterdir())


# What ONNX has a way of its own for.


def test_onnx_of_pools_and_padding():
    pytest.importorskip("jax2onnx")

    def function(image):
        x = image.astype(jnp.float32) - 100
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x = jnp.maximum(nn.max_pool(nn.relu(x), (2, 2)), 3)
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 2), (3, 4)), constant_values=5)
        return x.sum((1, 2))

    content = formats.FORMATS["onnx"].write(function, (8, 8, 3), None)
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    found = formats.FORMATS["onnx"].load(content)(image)
    np.testing.assert_allclose(found, function(image), rtol=1e-6)


def test_onnx_has_relus_and_no_noise(capfd):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("jax2onnx")
    network = models.build("resnet8", 10)
    made = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), made)

    def function(image):
        x = image.astype(jnp.float32)
        return network.apply(ones, x, train=False)[0]

    content = formats.FORMATS["onnx"].write(function, (8, 8, 3), None)
    formats.FORMATS["onnx"].load(content)
    names = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert (names.count("Relu"), names.count("Max")) == (7, 0)
    assert tuple(capfd.readouterr()) == ("", "")


def test_processor(monkeypatch, tmp_path):
    assert re.fullmatch(r".+, \d+ cores", formats.processor())
    monkeypatch.setattr(
        formats, "Path", lambda _: types.SimpleNamespace(exists=lambda: False)
    )
    monkeypatch.setattr(formats.platform, "processor", lambda: "")
    monkeypatch.setattr(formats.platform, "machine", lambda: "a machine")
    assert formats.processor().startswith("a machine, ")
