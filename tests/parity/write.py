"""Runs released codes of methods, networks and losses together, and stores figures.

    python -m tests.parity.write --repdistiller=DIR --reviewkd=DIR

with checkouts of HobbitLong/RepDistiller (b84f547) and dvlab-research/ReviewKD
(cede6ea) and PyTorch 2.13 on the CPU, in float64. Nothing of them is stored but the
figures: of each method and pair the loss of one batch, and of its gradient by every
parameter the norm and the product with a direction that `direction` draws. Weights and
images are drawn by `tests.interop.torch_reference.drawing`.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn

from tests.interop.torch_reference import drawing
from tests.parity import pairs

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "parity"

Tensors = list[torch.Tensor]


def load(module: nn.Module, prefix: str) -> nn.Module:
    """Draws the weights of a module, by the names of its state dict."""
    module = module.double()
    shapes = {
        f"{prefix}.{name}": tuple(leaf.shape)
        for name, leaf in module.state_dict().items()
    }
    drawn = drawing.state_dict(shapes)
    module.load_state_dict(
        {
            name.removeprefix(f"{prefix}."): torch.from_numpy(array)
            for name, array in drawn.items()
        }
    )
    return module


class Method(NamedTuple):
    """One method of a release.

    Attributes:
      loss: takes the method's modules, the features of student and teacher, the stem
        first and the pooled ones last, and the logits of both, as RepDistiller's
        `train_distill` and `init` call it.
      modules: what the method learns.
      preact: whether it reads the features before the ReLU.
    """

    loss: Callable[..., torch.Tensor]
    modules: nn.Module = nn.ModuleDict()
    preact: bool = False


def without_modules(zoo: Any) -> dict[str, Method]:
    """Returns the methods of RepDistiller that learn nothing."""

    def of_stages(criterion: nn.Module) -> Method:
        return Method(lambda m, fs, ft, ls, lt: sum(criterion(fs[1:-1], ft[1:-1])))

    def of_pooled(criterion: nn.Module) -> Method:
        return Method(lambda m, fs, ft, ls, lt: criterion(fs[-1], ft[-1]))

    return {
        "kd": Method(lambda m, fs, ft, ls, lt: zoo.DistillKL(4)(ls, lt)),
        "attention_transfer": of_stages(zoo.Attention()),
        "nst": of_stages(zoo.NSTLoss()),
        "similarity_preserving": Method(
            lambda m, fs, ft, ls, lt: sum(zoo.Similarity()([fs[-2]], [ft[-2]]))
        ),
        "rkd": of_pooled(zoo.RKDLoss()),
        "pkt": of_pooled(zoo.PKT()),
    }


def with_modules(
    zoo: Any, util: Any, student: Tensors, teacher: Tensors
) -> dict[str, Method]:
    """Returns the methods of RepDistiller that learn something, by both features."""
    s, t = ([x.shape for x in features] for features in (student, teacher))
    embeddings = {
        side: util.LinearEmbed(shapes[-1][1], 128)
        for side, shapes in (("student", s), ("teacher", t))
    }
    stages = list(zip(s[1:-1], t[1:-1], strict=True))
    return {
        "fitnets": Method(
            lambda m, fs, ft, ls, lt: zoo.HintLoss()(m(fs[2]), ft[2]),
            util.ConvReg(s[2], t[2]),
        ),
        "correlation_congruence": Method(
            lambda m, fs, ft, ls, lt: zoo.Correlation()(
                m["student"](fs[-1]), m["teacher"](ft[-1])
            ),
            nn.ModuleDict(embeddings),
        ),
        "vid": Method(
            lambda m, fs, ft, ls, lt: sum(
                vid(*maps) for vid, *maps in zip(m, fs[1:-1], ft[1:-1], strict=True)
            ),
            nn.ModuleList(zoo.VIDLoss(x[1], y[1], y[1]) for x, y in stages),
        ),
        "activation_boundary": Method(
            lambda m, fs, ft, ls, lt: sum(
                zoo.ABLoss(len(stages))(m(fs[1:-1]), ft[1:-1])
            ),
            util.Connector(s[1:-1], t[1:-1]),
            preact=True,
        ),
        "factor_transfer": Method(
            lambda m, fs, ft, ls, lt: zoo.FactorTransfer()(
                m["translator"](fs[-2]),
                m["paraphraser"](ft[-2], is_factor=True).detach(),
            ),
            nn.ModuleDict(
                {
                    "translator": util.Translator(s[-2], t[-2]),
                    "paraphraser": util.Paraphraser(t[-2]),
                }
            ),
        ),
    }


def fsp(zoo: Any, student: Tensors, teacher: Tensors) -> Method:
    """Returns FSP, which needs networks of equal widths."""
    criterion = zoo.FSP(*([x.shape for x in side[:-1]] for side in (student, teacher)))
    return Method(lambda m, fs, ft, ls, lt: sum(criterion(fs[:-1], ft[:-1])))


def figures(loss: torch.Tensor, modules: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    """Returns a loss, and norm and projection of its gradient by each parameter.

    Parameters that the loss does not reach are left out.
    """
    for module in modules.values():
        module.zero_grad()
    loss.backward()
    gradients = {
        f"{prefix}.{name}": parameter.grad.numpy()
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return {
        "value": loss.detach().numpy().reshape(()),
        "names": np.asarray(json.dumps(list(gradients))),
        "gradient": np.asarray(
            [pairs.summary(name, array) for name, array in gradients.items()]
        ),
    }


class Networks:
    """Teacher and student of a pair, by whoever builds them."""

    def __init__(self, teacher: nn.Module, student: nn.Module):
        self.teacher = load(teacher, "teacher").eval()
        self.student = load(student, "student").train()
        self.image = torch.from_numpy(drawing.images(pairs.BATCH, 32)).double()

    def student_outputs(self, preact: bool = False):
        return self.student(self.image, is_feat=True, preact=preact)

    def teacher_outputs(self, preact: bool = False):
        with torch.no_grad():
            return self.teacher(self.image, is_feat=True, preact=preact)


def repdistiller(
    networks: Networks, method: Method, name: str
) -> dict[str, np.ndarray]:
    """Runs one method on a pair."""
    modules = load(method.modules, name).train()
    if name == "factor_transfer":
        modules["paraphraser"].eval()
    student, student_logits = networks.student_outputs(method.preact)
    teacher, teacher_logits = networks.teacher_outputs(method.preact)
    value = method.loss(modules, student, teacher, student_logits, teacher_logits)
    return figures(value, {"student": networks.student, name: modules})


def review(networks: Networks, reviewkd: Any) -> dict[str, np.ndarray]:
    """Runs ReviewKD, whose fusion lists stages from the top down."""
    student, _ = networks.student_outputs()
    teacher, _ = networks.teacher_outputs(preact=True)
    maps, targets = student[1:][::-1], teacher[1:]
    middle = min(512, maps[0].shape[1])
    fusion = load(
        nn.ModuleList(
            reviewkd.ABF(x.shape[1], middle, y.shape[1], index > 0)
            for index, (x, y) in enumerate(zip(maps, targets[::-1], strict=True))
        ),
        "review",
    ).train()
    found, above = [], None
    for fuse, x, target in zip(fusion, maps, targets[::-1], strict=True):
        if above is None:
            out, above = fuse(x, out_shape=target.shape[2])
        else:
            out, above = fuse(x, above, x.shape[2], target.shape[2])
        found.insert(0, out)
    return figures(
        reviewkd.hcl(found, targets), {"student": networks.student, "review": fusion}
    )


def build(name: str, resnet: Any, wrn: Any) -> nn.Module:
    """Builds a network by its name in kdjax out of a release's classes."""
    family, *numbers = name.split("_")
    # The networks of ReviewKD move to a GPU when they are made.
    with mock.patch.object(nn.Module, "to", lambda self, device: self):
        if family == "wrn":
            depth, widen = map(int, numbers)
            return wrn(depth=depth, widen_factor=widen, num_classes=pairs.CLASSES)
        depth = int(name.removeprefix("resnet"))
        widths = [16, 16, 32, 64]
        return resnet(depth, widths, "basicblock", num_classes=pairs.CLASSES)


def main() -> None:
    """Writes a file a pair."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repdistiller", required=True, help="a checkout of it")
    parser.add_argument("--reviewkd", required=True, help="a checkout of it")
    args = parser.parse_args()
    sys.path += [args.repdistiller, f"{args.reviewkd}/CIFAR-100"]
    import distiller_zoo as zoo
    import models.resnet
    import models.util as util
    import models.wrn
    from model import resnet_cifar, reviewkd

    def of_repdistiller(name: str) -> nn.Module:
        return build(name, models.resnet.ResNet, models.wrn.wrn)

    def of_reviewkd(name: str) -> nn.Module:
        return build(name, resnet_cifar.ResNet, reviewkd.wrn)

    FOLDER.mkdir(exist_ok=True)
    for pair in pairs.PAIRS:
        networks = Networks(
            of_repdistiller(pair.teacher), of_repdistiller(pair.student)
        )
        student, teacher = networks.student_outputs()[0], networks.teacher_outputs()[0]
        methods = without_modules(zoo) | with_modules(zoo, util, student, teacher)
        found = {
            name: repdistiller(networks, method, name)
            for name, method in methods.items()
        }
        narrow = Networks(
            of_repdistiller(pair.fsp_teacher), of_repdistiller(pair.student)
        )
        method = fsp(zoo, student, narrow.teacher_outputs()[0])
        found["fsp"] = repdistiller(narrow, method, "fsp")
        networks = Networks(of_reviewkd(pair.teacher), of_reviewkd(pair.student))
        found["review"] = review(networks, reviewkd)
        flat = {
            f"{method}/{key}": array
            for method, arrays in found.items()
            for key, array in arrays.items()
        }
        np.savez_compressed(FOLDER / f"{pair.name}.npz", **flat)
        print(pair.name, {name: float(x["value"]) for name, x in found.items()})


if __name__ == "__main__":
    main()
