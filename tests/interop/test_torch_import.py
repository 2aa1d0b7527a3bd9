import argparse
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from kdjax import models, recipes, train
from kdjax.evaluate.__main__ import main as evaluate_main
from kdjax.interop import torch_export, torch_import, torch_layout
from kdjax.runs import trained
from tests import small_runs
from tests.interop.torch_reference import drawing, files


def shapes(model="resnet8", num_classes=10, layout="overhaul"):
    """Returns the names and shapes of a PyTorch state dict of the network."""
    network = models.build(model, num_classes)
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variables)
    written = torch_layout.to_state_dict(network, variables, layout)
    return {name: array.shape for name, array in written.items()}


def checkpoint(path, **kwargs):
    """Writes weights as PyTorch users keep them; returns the path and the weights."""
    weights = drawing.state_dict(shapes(**kwargs))
    tensors = {f"module.{name}": files.Tensor(x) for name, x in weights.items()}
    path.write_bytes(files.archive({"state_dict": tensors, "epoch": 164}))
    return path, weights


def run(path, out, *more, model="resnet8"):
    constants = ("--mean_std", *["78"] * 3, *["96"] * 3)
    arguments = (path, "--model", model, "--out", out, "--data=digits", *constants)
    return torch_import.main([*map(str, arguments), *more])


@pytest.mark.parametrize("layout", ["overhaul", "linear"])
def test_a_checkpoint_becomes_a_trained_network(tmp_path, capsys, layout):
    path, weights = checkpoint(tmp_path / "teacher.pth", layout=layout)
    assert run(path, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert f"holds a resnet8 of 78,042 parameters, from {path} in layout" in said
    assert repr(layout) in said
    found = trained.load(tmp_path / "out")
    network = models.build("resnet8", 10)
    written = torch_layout.to_state_dict(network, found.variables, layout)
    for name, array in weights.items():
        np.testing.assert_array_equal(written[name], array)
    assert found.config["data"]["std"] == [96, 96, 96]
    source = json.loads((tmp_path / "out" / trained.SOURCE).read_text())
    assert source["file"] == "teacher.pth"
    assert len(source["sha256"]) == 64


def test_a_file_of_akamaster_becomes_a_zero_padded_network(tmp_path, capsys):
    """Written by PyTorch before 1.6, as pretrained_models/resnet20-12fca82f.th is."""
    weights = drawing.state_dict(shapes("resnet20_zero_padded", layout="linear"))
    # Two for the classifier and five for each batch norm beside its kernel.
    assert len(weights) == 2 + 6 * 19
    kept = {"state_dict": renamed(weights, "module."), "best_prec1": 91.73}
    (tmp_path / "resnet20.th").write_bytes(files.old(kept))
    model = "resnet20_zero_padded"
    assert run(tmp_path / "resnet20.th", tmp_path / "out", model=model) == 0
    assert "in layout 'linear' at key 'state_dict.module'" in capsys.readouterr().out
    found = trained.load(tmp_path / "out").variables["params"]
    for block, number in (("group1_block0", "1.0"), ("group3_block2", "3.2")):
        np.testing.assert_array_equal(
            np.transpose(found[block]["conv2"]["kernel"], (3, 2, 0, 1)),
            weights[f"layer{number}.conv2.weight"],
        )


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The work directory of a network that has learned some of the digits."""
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    config = recipes.alone("wrn_10_1,digits")
    config.epochs = 2
    config.data.train_fraction = 0.5
    return workdir, train.train_and_evaluate(config, workdir)


def test_a_run_goes_to_pytorch_and_comes_back_as_the_same_teacher(
    teacher, tmp_path, capsys
):
    """Bit for bit, and then teaches, seen through other constants."""
    workdir, result = teacher
    exported = tmp_path / "exported.safetensors"
    flags = ["--workdir", str(workdir), "--out", str(exported)]
    assert torch_export.main(flags) == 0
    with safetensors.safe_open(exported, "np") as file:
        assert file.metadata()["model"] == "wrn_10_1"
        assert json.loads(file.metadata()["mean"]) == [78, 78, 78]
    imported = tmp_path / "imported"
    assert run(exported, imported, "--evaluate", model="wrn_10_1") == 0
    accuracy = result["final_test_accuracy"]
    assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out
    before, after = trained.load(workdir), trained.load(imported)
    jax.tree.map(np.testing.assert_array_equal, before.variables, after.variables)

    config = recipes.distillation("wrn_10_1-wrn_10_1,digits", {"overhaul": {}})
    config.teacher.checkpoint = str(imported)
    config.data.mean, config.data.std = (0.0,) * 3, (255.0,) * 3
    config.epochs = 1
    taught = train.train_and_evaluate(config, tmp_path / "student")
    assert taught["teacher_test_accuracy"] == pytest.approx(accuracy, abs=2e-3)

    # Neither command overwrites.
    assert torch_export.main(flags) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(exported, imported, model="wrn_10_1") == 2
    assert "already holds a run" in capsys.readouterr().err


def renamed(weights, prefix=""):
    return {f"{prefix}{name}": files.Tensor(x) for name, x in weights.items()}


#: How training code keeps weights: what is saved, and the key that is printed.
KEPT = {
    "bare": (renamed, ""),
    "compiled": (lambda w: renamed(w, "_orig_mod."), "_orig_mod"),
    "parallel and compiled": (
        lambda w: {"model": renamed(w, "module._orig_mod.")},
        "model.module._orig_mod",
    ),
    "Lightning": (lambda w: {"state_dict": renamed(w, "model.")}, "state_dict.model"),
    "averaged": (
        lambda w: {
            "n_averaged": files.Tensor(np.asarray(7, np.int64)),
            **renamed(w, "module."),
        },
        "module",
    ),
    "distiller": (
        lambda w: {
            **renamed(w, "module.student."),
            "module.teacher.fc.weight": files.Tensor(np.ones((3, 2), np.float32)),
        },
        "module.student",
    ),
}


@pytest.mark.parametrize("kept", KEPT)
def test_weights_are_found_wherever_they_are_kept(tmp_path, capsys, kept):
    wrap, key = KEPT[kept]
    weights = drawing.state_dict(shapes())
    path = tmp_path / "teacher.pth"
    path.write_bytes(files.archive(wrap(weights)))
    assert run(path, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert f"in layout 'overhaul'{f' at key {key!r}' * bool(key)}, for 10" in said
    found = trained.load(tmp_path / "out")
    network = models.build("resnet8", 10)
    written = torch_layout.to_state_dict(network, found.variables, "overhaul")
    for name, array in weights.items():
        np.testing.assert_array_equal(written[name], array)


def test_of_several_networks_one_must_be_chosen(tmp_path, capfd):
    weights = drawing.state_dict(shapes())
    other = {name: 2 * x for name, x in weights.items()}
    path = tmp_path / "teacher.pth"
    saved = {"state_dict": renamed(weights), "ema": renamed(other, "module.")}
    path.write_bytes(files.archive(saved))
    assert run(path, tmp_path / "out") == 2
    assert capfd.readouterr().err == (
        f"torch_import: {path}: it holds several resnet8: choose one by key, of "
        "'state_dict', 'ema.module'\n"
    )
    assert run(path, tmp_path / "out", "--key=model") == 2
    assert "key='model' is none of 'state_dict', 'ema" in capfd.readouterr().err
    assert run(path, tmp_path / "out", "--key=ema.module") == 0
    kernel = trained.load(tmp_path / "out").variables["params"]["classifier"]["kernel"]
    np.testing.assert_array_equal(kernel, other["fc.weight"].T)


def test_both_heads_of_a_transformer_are_found_with_their_classes(tmp_path, capsys):
    """In a file as the code of DeiT writes them; one head of other classes is named."""
    weights = drawing.state_dict(shapes("vit_4_64_distilled", layout="timm"))
    path, model = tmp_path / "deit.pth", "vit_4_64_distilled"
    path.write_bytes(files.archive({"model": renamed(weights)}))
    assert run(path, tmp_path / "out", model=model) == 0
    assert "in layout 'timm' at key 'model', for 10" in capsys.readouterr().out
    found = trained.load(tmp_path / "out").variables["params"]
    kernel = found["distillation_classifier"]["kernel"]
    np.testing.assert_array_equal(kernel, weights["head_dist.weight"].T)
    weights["head_dist.bias"] = np.zeros(7, np.float32)
    path.write_bytes(files.archive({"model": renamed(weights)}))
    assert run(path, tmp_path / "other", model=model) == 2
    said = capsys.readouterr().err
    assert "1 of another shape (head_dist.bias (7,) instead of (10,))" in said


@pytest.mark.parametrize(
    ("written", "model", "message"),
    [
        (
            {"num_classes": 100},
            "resnet8",
            r"has a classifier of 100 classes, and data=digits has 10: .* data=none$",
        ),
        (
            {"model": "wrn_10_1"},
            "resnet8",
            r"not a resnet8 at key 'state_dict\.module' but wrn_10_1 of 10 classes: "
            r"of 47 names \d+ missing \(layer1\.0\.conv1\.weight, .*\.\.\.\), "
            r"\d+ unexpected \(block1\.layer\.0\.bn1\.running_mean, .*\), 4 of ano",
        ),
        (
            {},
            "resnet14",
            r"resnet8 of 10 classes: .*30 missing \(layer1\.1\.conv1\.weight, ",
        ),
        (
            {"model": "resnet20_zero_padded", "layout": "linear"},
            "resnet20",
            r"but resnet20_zero_padded of 10 classes: .*10 missing \(layer2\.0\.short",
        ),
        ({"model": "resnet26"}, "resnet8", "resnet8 .* and no other known network: "),
        ({}, "mhgd_mobilenet", "MobileNet has no PyTorch layout"),
        ({}, "resnet9", "no network is called 'resnet9'"),
    ],
)
def test_another_network_is_one_line_and_writes_nothing(
    tmp_path, capfd, written, model, message
):
    path, _ = checkpoint(tmp_path / "teacher.pth", **written)
    assert run(path, tmp_path / "out", model=model) == 2
    said = capfd.readouterr().err
    assert said.startswith("torch_import: ")
    assert said.count("\n") == 1
    assert re.search(message, said.strip())
    assert len(said.replace(str(path), path.name)) < 350 or "known are" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["teacher.pth"]


def test_a_weight_that_is_no_tensor_is_named(tmp_path, capfd):
    saved = renamed(drawing.state_dict(shapes()))
    path = tmp_path / "teacher.pth"
    saved["conv1.weight"] = argparse.Namespace()
    path.write_bytes(files.archive(saved))
    assert run(path, tmp_path / "out") == 2
    said = capfd.readouterr().err
    assert "of 47 names 1 missing (conv1.weight, a argparse.Namespace)\n" in said


def test_a_network_of_unknown_data_comes_in_and_goes_out(tmp_path, capfd):
    """The file tells the number of classes, and so do the variables."""
    path, weights = checkpoint(tmp_path / "teacher.pth", num_classes=7)
    assert run(path, tmp_path / "no", "--data=none", "--evaluate") == 2
    assert "data=none has no test split to evaluate on" in capfd.readouterr().err
    assert run(path, tmp_path / "out", "--data=none") == 0
    assert capfd.readouterr().out.endswith(", for 7 classes\n")
    exported = tmp_path / "exported.safetensors"
    given = [f"--workdir={tmp_path / 'out'}", f"--out={exported}"]
    assert torch_export.main(given) == 0
    written = safetensors.numpy.load_file(exported)
    for name, array in weights.items():
        np.testing.assert_array_equal(written[name], array)


def test_a_network_of_an_untidy_folder_without_a_test_split(tmp_path, capfd):
    """It has fewer images than a batch of the training's."""
    path, _ = checkpoint(tmp_path / "teacher.pth", num_classes=3)
    data_dir = tmp_path / "data"
    small_runs.write_images(data_dir, ["a", "b", "c"], {"": 4})
    (data_dir / "a" / "broken.png").write_bytes(b"no image")
    given = ["--data=folder", f"--data_dir={data_dir}", "--evaluate"]
    divided = "--test_fraction=0.5"
    for flags, message in (
        ([], "does not hold the folders train, and"),
        ([divided], "1 of 13 files cannot be used: a/broken.png"),
        (["--test_fraction=1.5"], "data.test_fraction=1.5 is not in [0, 1)"),
        ([divided, "--bad_images=skip", "--eval_crop=2"], "data.eval_crop=2.0 is not"),
    ):
        assert run(path, tmp_path / "out", *given, *flags) == 2
        said = capfd.readouterr().err
        assert said.startswith("torch_import: ")
        assert said.count("\n") == 1
        assert message in said
        assert not (tmp_path / "out").exists()
    assert run(path, tmp_path / "out", *given, divided, "--bad_images=skip") == 0
    assert "for 3 classes; test accuracy" in capfd.readouterr().out
    data = trained.load(tmp_path / "out").data
    assert (data.test_fraction, data.bad_images) == (0.5, "skip")
    # And is evaluated as imported.
    assert evaluate_main([f"--workdir={tmp_path / 'out'}"]) == 0
    assert f"on 6 test images of {data_dir}" in capfd.readouterr().out


def test_constants_in_units_of_0_to_1_are_refused(tmp_path, capfd):
    path, _ = checkpoint(tmp_path / "teacher.pth")
    constants = ["--mean_std", "0.485", "0.456", "0.406", "0.229", "0.224", "0.225"]
    assert run(path, tmp_path / "out", *constants) == 2
    said = capfd.readouterr().err
    assert said.startswith("torch_import: data.mean=(0.485, 0.456, 0.406) and data.std")
    assert said.endswith("pixels are 0..255: multiply both by 255\n")
    assert not (tmp_path / "out").exists()


def test_damaged_and_missing_files_are_one_line(tmp_path, capfd):
    path, _ = checkpoint(tmp_path / "teacher.pth")
    path.write_bytes(path.read_bytes()[:1000])
    for name in ("teacher.pth", "nothing.pth"):
        assert run(tmp_path / name, tmp_path / "out") == 2
        said = capfd.readouterr().err
        assert name in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out=student.pth"], "out=student.pth must end in .safetensors"),
        (["--layout=keras"], "layout='keras' is none of ('overhaul',)"),
        (["--workdir=nowhere"], "workdir='nowhere' is not the work directory of a run"),
    ],
)
def test_exports_that_cannot_work_are_one_line(
    teacher, tmp_path, capfd, flags, message
):
    out = tmp_path / "student.safetensors"
    given = [f"--workdir={teacher[0]}", f"--out={out}", *flags]
    assert torch_export.main(given) == 2
    said = capfd.readouterr().err
    assert said == f"torch_export: {message}\n"
    assert not list(tmp_path.iterdir())


def test_an_exported_network_comes_back_without_its_normalization(tmp_path, capsys):
    path, _ = checkpoint(tmp_path / "teacher.pth")
    assert run(path, tmp_path / "teacher") == 0
    exported = tmp_path / "net.safetensors"
    flags = [f"--workdir={tmp_path / 'teacher'}", f"--out={exported}"]
    assert torch_export.main(flags) == 0
    flags = ["--model=resnet8", "--data=digits"]
    back = tmp_path / "back"
    assert torch_import.main([str(exported), *flags, f"--out={back}"]) == 0
    data = trained.load(back).config["data"]
    assert (data["mean"], data["std"]) == ([78] * 3, [96] * 3)
    capsys.readouterr()
    status = torch_import.main([str(path), *flags, f"--out={tmp_path / 'none'}"])
    assert status == 2
    assert capsys.readouterr().err == (
        f"torch_import: {path} does not say how its images were normalized: give "
        "--normalization or --mean_std\n"
    )
