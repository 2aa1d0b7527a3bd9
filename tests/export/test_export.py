"""Exports of a small run with its teacher, and errors."""

import contextlib
import functools
import importlib.util
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import types
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from kdjax import models
from kdjax.data import normalization
from kdjax.data.sources import digits
from kdjax.export import __main__ as export
from kdjax.export import checked, formats, latency, program
from kdjax.runs import trained
from tests import commands, small_runs
from tests.small_runs import STEPS, set_fields, write_images

HERE = pathlib.Path(__file__).parents[2]
#: Any number of 8x8 images.
PIXELS = program.INPUTS["uint8_nhwc"].type_of((8, 8, 3), None)


@pytest.fixture(scope="module", autouse=True)
def shortcuts():
    """The shortcuts of every small run, and fewer timed calls."""
    with small_runs.shortcuts() as patch:
        patch.setattr(latency, "CALLS", 4)
        patch.setattr(export, "_IMAGES", 12)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a finished run; its teacher normalizes otherwise."""
    teacher, workdir = (tmp_path_factory.mktemp(name) for name in ("teacher", "run"))
    small_runs.distill(teacher, workdir)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, to be changed."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def alone(copy):
    """A run without a teacher, whose export takes half the time."""
    set_fields(copy, "teacher", checkpoint="")
    return copy


class Export(NamedTuple):
    """A run exported with its teacher.

    Attributes:
      form: name of the format.
      folded: value of `--fold_batch_norm`.
      content: of the file.
      printed: by the command.
      teacher: content of the teacher's file.
    """

    form: str
    folded: str
    content: bytes
    printed: str
    teacher: bytes


#: Each format, with the batch norms folded and kept.
EXPORTS = [
    (form, folded) for form in ("stablehlo", "onnx") for folded in ("true", "false")
]


@pytest.fixture(scope="module", params=EXPORTS, ids="-".join)
def exported(request, run, tmp_path_factory):
    """The run, exported once in each way."""
    form, folded = request.param
    if form == "onnx":
        pytest.importorskip("jax2onnx")
    out = tmp_path_factory.mktemp("out") / "a file"
    before, contents, write = listing(run), {}, checked.write

    def remember(found, sample, file, *settings):
        row = write(found, sample, file, *settings)
        contents[found.config["model"]] = file.read_bytes()
        return row

    printed = io.StringIO()
    flags = [f"--workdir={run}", f"--format={form}", f"--out={out}"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(checked, "write", remember)
        assert export.main([*flags, f"--fold_batch_norm={folded}"]) == 0
    assert listing(run) == before
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == contents["wrn_10_1"]
    printed = printed.getvalue().replace(str(out), "OUT")
    return Export(form, folded, contents["wrn_10_1"], printed, contents["resnet8"])


command = functools.partial(commands.run, export.main)
refused = functools.partial(commands.refused, export.main)


def words(text):
    """Joins wrapped lines."""
    return " ".join(text.split())


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


# Exports.


def test_program_is_the_student(run, exported):
    content, form = exported.content, exported.form
    image = digits.load()["test"].image[20:31]
    wanted = expected(run, image)
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


def test_table_compares_student_and_teacher(run, exported):
    printed, folded = exported.printed, exported.folded
    assert printed.startswith(
        f"OUT: the student after step {STEPS}, the last checkpoint of a run that is "
        "finished\n"
    )
    assert f"Batch norms are {'folded' if folded == 'true' else 'kept'}." in words(
        printed
    )
    assert "4 calls with 1 image [" in words(printed)
    assert "on 12 test images" in words(printed)
    written_by = f"Written by jax {jax.__version__}: " in printed
    assert written_by == (exported.form == "stablehlo")
    rows = table(printed)
    result = json.loads((run / "result.json").read_text())
    assert rows["network"] == ["resnet8", "wrn_10_1"]
    assert rows["file, bytes"][1] == f"{len(exported.content):,}"
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


def test_the_teacher_normalizes_its_own_way(run, exported):
    if exported.form != "stablehlo":
        pytest.skip("once is enough")
    image = digits.load()["test"].image[:3]
    teacher = json.loads((run / "config.json").read_text())["teacher"]["checkpoint"]
    logits = jax_export.deserialize(bytearray(exported.teacher)).call(image)
    wanted = expected(pathlib.Path(teacher), image)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_the_program_runs_without_kdjax(run, exported, tmp_path):
    if exported.form != "stablehlo":
        pytest.skip("onnxruntime knows nothing of kdjax")
    (tmp_path / "student.stablehlo").write_bytes(exported.content)
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


def test_a_run_of_the_streaming_pipeline(alone, capsys):
    """Its test images are not in memory."""
    set_fields(alone, "data", pipeline="streaming")
    status, said, _ = command(capsys, f"--workdir={alone}", "--format=stablehlo")
    assert status == 0
    assert "on 12 test images" in words(said)


@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_normalized_images_with_the_axes_of_pytorch(alone, tmp_path, capsys, form):
    if form == "onnx":
        pytest.importorskip("jax2onnx")
    out = tmp_path / "out"
    flags = (f"--workdir={alone}", f"--format={form}", f"--out={out}")
    assert command(capsys, *flags, "--input=float32_nchw")[0] == 0
    image = digits.load()["test"].image[:4]
    data = json.loads((alone / "config.json").read_text())["data"]
    given = (np.float32(image) - np.float32(data["mean"])) / np.float32(data["std"])
    given = given.transpose(0, 3, 1, 2)
    if form == "onnx":
        session = onnx_session(out.read_bytes())
        assert session.get_inputs()[0].shape == ["B", 3, 8, 8]
        metadata = session.get_modelmeta().custom_metadata_map
        assert metadata.pop("model") == "wrn_10_1"
        assert metadata.pop("input") == "float32_nchw"
        assert {name: json.loads(text) for name, text in metadata.items()} == {
            "class_names": list("0123456789"),
            "mean": data["mean"],
            "std": data["std"],
        }
        (logits,) = session.run(["logits"], {"image": given})
    else:
        loaded = jax_export.deserialize(bytearray(out.read_bytes()))
        (takes,) = loaded.in_avals
        assert (str(takes.shape[0]), takes.shape[1:]) == ("B", (3, 8, 8))
        assert takes.dtype == np.float32
        logits = loaded.call(given)
    np.testing.assert_allclose(logits, expected(alone, image), atol=1e-4)


def test_data_set_that_has_moved(alone, tmp_path, capsys):
    gone = tmp_path / "gone"
    set_fields(alone, "data", name="folder", data_dir=str(gone), image_size=8)
    flags = (f"--workdir={alone}", "--format=stablehlo", "--overwrite")
    status, said, _ = command(capsys, *flags)
    assert status == 0
    assert "on 12 random images" in words(said)
    assert (
        f"The test images could not be read: data.data_dir='{gone}' does not exist"
        in said
    )
    content = (alone / "student.stablehlo").read_bytes()
    here = tmp_path / "here"
    write_images(here, "0123456789", {"train": 1, "test": 1})
    status, said, error = command(capsys, *flags, f"--data_dir={here}")
    assert (status, error) == (0, "")
    assert "on 12 test images" in words(said)
    assert "could not be read" not in said
    assert len((alone / "student.stablehlo").read_bytes()) == len(content)


def test_images_that_cannot_be_used(alone, tmp_path, capsys):
    flags = (f"--workdir={alone}", "--format=stablehlo")
    line = refused(capsys, *flags, f"--data_dir={tmp_path}")
    assert line == (
        f"--data_dir='{tmp_path}' but data.name='digits' is not read from a folder"
    )
    assert refused(capsys, *flags, "--image_size=0") == "--image_size=0 is less than 1"
    gone, here = tmp_path / "gone", tmp_path / "here"
    set_fields(alone, "data", name="folder", data_dir=str(gone), image_size=0)
    before = listing(alone)
    line = refused(capsys, *flags)
    assert line.startswith("the size of the images is not known (data.data_dir=")
    assert line.endswith("or --image_size how large its images are")
    line = refused(capsys, *flags, f"--data_dir={gone}")
    assert line == f"data.data_dir='{gone}' does not exist"
    write_images(here, "ab", {"train": 1, "test": 1})
    line = refused(capsys, *flags, f"--data_dir={here}")
    assert line == "the network has 10 classes, and the data set 2: a, b"
    assert listing(alone) == before


def test_default_name_and_overwriting(alone, capsys):
    flags = (f"--workdir={alone}", "--format=stablehlo")
    out = alone / "student.stablehlo"
    assert command(capsys, *flags)[0] == 0
    before = listing(alone)
    assert refused(capsys, *flags) == f"--out={out} exists: --overwrite replaces it"
    assert listing(alone) == before
    first = out.read_bytes()
    out.write_bytes(b"another file")
    assert command(capsys, *flags, "--overwrite")[0] == 0
    assert len(out.read_bytes()) == len(first)


def test_fixed_batch(alone, tmp_path, capsys):
    out = tmp_path / "out"
    flags = (f"--workdir={alone}", "--format=stablehlo", f"--out={out}")
    status, said, _ = command(capsys, *flags, "--batch_size=5")
    assert status == 0
    assert "4 calls with 5 images [" in words(said)
    assert "on 15 test images" in words(said)
    loaded = jax_export.deserialize(bytearray(out.read_bytes()))
    assert loaded.in_avals[0].shape == (5, 8, 8, 3)


def test_unfinished_run_and_missing_teacher(copy, capsys):
    (copy / "result.json").unlink()
    set_fields(copy, "teacher", checkpoint=str(copy / "moved"))
    status, said, _ = command(capsys, f"--workdir={copy}", "--format=stablehlo")
    assert status == 0
    assert (
        f"after step {STEPS}, the last checkpoint of a run that has no result" in said
    )
    assert table(said)["test accuracy"] == ["\N{EM DASH}"]
    assert table(said)["network"] == ["wrn_10_1"]
    assert said.endswith(
        "The student is written; the teacher was not exported: teacher.checkpoint="
        f"'{copy / 'moved'}' is not the work directory of a run\n"
    )


def test_run_without_a_teacher(alone, capsys):
    status, said, _ = command(capsys, f"--workdir={alone}", "--format=stablehlo")
    assert (status, table(said)["network"]) == (0, ["wrn_10_1"])
    assert "teacher" not in said.partition("\n")[2]


# Errors.


def test_a_program_with_other_logits_is_rejected(run, tmp_path, capsys, monkeypatch):
    fold = checked.fold.fold_batch_norms

    def wrong(*given):
        apply, *rest = fold(*given)
        return lambda variables, image: apply(variables, image) * 1.001, *rest

    monkeypatch.setattr(checked.fold, "fold_batch_norms", wrong)
    line = refused(
        capsys, f"--workdir={run}", "--format=stablehlo", f"--out={tmp_path / 'out'}"
    )
    assert re.fullmatch(
        r"on 12 test images the stablehlo program of wrn_10_1 differs from it by "
        r"1\.0e-03 of the largest logit, more than 1e-04: not written",
        line,
    )
    assert not list(tmp_path.iterdir())


def test_nan_logits_are_rejected(run, tmp_path, capsys, monkeypatch):
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


# What ONNX needs besides.


def test_onnx_of_pools_and_padding():
    pytest.importorskip("jax2onnx")

    def function(image):
        x = image.astype(jnp.float32) - 100
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x = jnp.maximum(nn.max_pool(nn.relu(x), (2, 2)), 3)
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 2), (3, 4)), constant_values=5)
        return x.sum((1, 2))

    content = formats.FORMATS["onnx"].write(function, PIXELS, {})
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

    content = formats.FORMATS["onnx"].write(function, PIXELS, {})
    formats.FORMATS["onnx"].load(content)
    names = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert (names.count("Relu"), names.count("Max")) == (7, 0)
    assert tuple(capfd.readouterr()) == ("", "")


def test_processor(monkeypatch, tmp_path):
    assert re.fullmatch(r".+, \d+ cores", latency.processor())
    monkeypatch.setattr(
        latency, "Path", lambda _: types.SimpleNamespace(exists=lambda: False)
    )
    monkeypatch.setattr(latency.platform, "processor", lambda: "")
    monkeypatch.setattr(latency.platform, "machine", lambda: "a machine")
    assert latency.processor().startswith("a machine, ")
