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
from typing import Any
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


def losses(
    zoo: Any, util: Any, student: Tensors, teacher: Tensors
) -> dict[str, tuple[nn.Module, Callable[..., torch.Tensor], bool]]:
    """Returns by method: what it learns, its loss, and whether it reads `preact`.

    A loss takes the modules and the features and logits of student and teacher, as
    RepDistiller's `train_distill` and `init` call it.
    """
    s, t = ([x.shape for x in features] for features in (student, teacher))
    nothing = nn.ModuleDict()

    def of_stages(criterion):
        return lambda m, fs, ft, ls, lt: sum(criterion(fs[1:-1], ft[1:-1]))

    def of_pooled(criterion):
        return lambda m, fs, ft, ls, lt: criterion(fs[-1], ft[-1])

    vid = nn.ModuleDict(
        {
            str(i): zoo.VIDLoss(a[1], b[1], b[1])
            for i, (a, b) in enumerate(zip(s[1:-1], t[1:-1], strict=True))
        }
    )
    factor = nn.ModuleDict(
        {
            "translator": util.Translator(s[-2], t[-2]),
            "paraphraser": util.Paraphraser(t[-2]),
        }
    )
    embeddings = nn.ModuleDict(
        {
            side: util.LinearEmbed(shapes[-1][1], 128)
            for side, shapes in (("student", s), ("teacher", t))
        }
    )
    return {
        "kd": (
            nothing,
            lambda m, fs, ft, ls, lt: zoo.DistillKL(4)(ls, lt),
            False,
        ),
        "fitnets": (
            util.ConvReg(s[2], t[2]),
            lambda m, fs, ft, ls, lt: zoo.HintLoss()(m(fs[2]), ft[2]),
            False,
        ),
        "attention_transfer": (nothing, of_stages(zoo.Attention()), False),
        "nst": (nothing, of_stages(zoo.NSTLoss()), False),
        "similarity_preserving": (
            nothing,
            lambda m, fs, ft, ls, lt: sum(zoo.Similarity()([fs[-2]], [ft[-2]])),
            False,
        ),
        "rkd": (nothing, of_pooled(zoo.RKDLoss()), False),
        "pkt": (nothing, of_pooled(zoo.PKT()), False),
        "correlation_congruence": (
            embeddings,
            lambda m, fs, ft, ls, lt: zoo.Correlation()(
                m["student"](fs[-1]), m["teacher"](ft[-1])
            ),
            False,
        ),
        "vid": (
            vid,
            lambda m, fs, ft, ls, lt: sum(
                m[str(i)](a, b)
                for i, (a, b) in enumerate(zip(fs[1:-1], ft[1:-1], strict=True))
            ),
            False,
        ),
        "activation_boundary": (
            util.Connector(s[1:-1], t[1:-1]),
            lambda m, fs, ft, ls, lt: sum(
                zoo.ABLoss(len(ft[1:-1]))(m(fs[1:-1]), ft[1:-1])
            ),
            True,
        ),
        "factor_transfer": (
            factor,
            lambda m, fs, ft, ls, lt: zoo.FactorTransfer()(
                m["translator"](fs[-2]),
                m["paraphraser"](ft[-2], is_factor=True).detach(),
            ),
            False,
        ),
    }


def fsp(zoo: Any, student: Tensors, teacher: Tensors):
    """Returns the same for FSP, which needs networks of equal widths."""
    criterion = zoo.FSP(*([x.shape for x in side[:-1]] for side in (student, teacher)))
    return (
        nn.ModuleDict(),
        lambda m, fs, ft, ls, lt: sum(criterion(fs[:-1], ft[:-1])),
        False,
    )


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


def repdistiller(networks: Networks, method, name: str) -> dict[str, np.ndarray]:
    """Runs one method on a pair."""
    module, loss, preact = method
    module = load(module, name).train()
    if name == "factor_transfer":
        module["paraphraser"].eval()
    student, student_logits = networks.student_outputs(preact)
    teacher, teacher_logits = networks.teacher_outputs(preact)
    value = loss(module, student, teacher, student_logits, teacher_logits)
    return figures(value, {"student": networks.student, name: module})


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

    def build(name: str, resnet: Any, wrn: Any) -> nn.Module:
        family, *numbers = name.split("_")
        # The networks of ReviewKD move to a GPU when they are made.
        with mock.patch.object(nn.Module, "to", lambda self, device: self):
            if family == "wrn":
                depth, widen = map(int, numbers)
                return wrn(depth=depth, widen_factor=widen, num_classes=pairs.CLASSES)
            depth = int(name.removeprefix("resnet"))
            widths = [16, 16, 32, 64]
            return resnet(depth, widths, "basicblock", num_classes=pairs.CLASSES)

    def of_repdistiller(name: str) -> nn.Module:
        return build(name, models.resnet.ResNet, models.wrn.wrn)

    def of_reviewkd(name: str) -> nn.Module:
        return build(name, resnet_cifar.ResNet, reviewkd.wrn)

    FOLDER.mkdir(exist_ok=True)
    for pair in pairs.PAIRS:
        networks = Networks(
            of_repdistiller(pair.teacher), of_repdistiller(pair.student)
        )
        narrow = Networks(
            of_repdistiller(pair.fsp_teacher), of_repdistiller(pair.student)
        )
        student, teacher = networks.student_outputs()[0], networks.teacher_outputs()[0]
        found = {
            name: repdistiller(networks, method, name)
            for name, method in losses(zoo, util, student, teacher).items()
        }
        found["fsp"] = repdistiller(
            narrow, fsp(zoo, student, narrow.teacher_outputs()[0]), "fsp"
        )
        networks = Networks(of_reviewkd(pair.teacher), of_reviewkd(pair.student))
        found["review"] = review(networks, reviewkd)
        np.savez_compressed(
            FOLDER / f"{pair.name}.npz",
            **{
                f"{method}/{key}": array
                for method, arrays in found.items()
                for key, array in arrays.items()
            },
        )
        print(pair.name, {name: float(x["value"]) for name, x in found.items()})


if __name__ == "__main__":
    main()
