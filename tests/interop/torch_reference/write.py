"""Runs the networks in PyTorch and stores what they answer under tests/golden/torch.

    python -m tests.interop.torch_reference.write [NAME.LAYOUT ...]

writes all networks, or those that are named. Written with PyTorch 2.13 on the CPU, in
float64; transformers and ConvNeXts with PyTorch 2.14.1, torchvision 0.29.1 and timm
1.0.31, which the others do not need.
"""

import json
import pathlib
import sys

import numpy as np
import torch

from tests.interop.torch_reference import (
    convnext,
    drawing,
    mobilenet,
    mobilenet_v2,
    pyramidnet,
    resnet,
    shufflenet,
    shufflenet_v2,
    vgg,
    vision_transformer,
    wide_resnet,
)

FOLDER = pathlib.Path(__file__).parents[2] / "golden" / "torch"

#: By name and layout: what builds a network for 10 classes, and the size of its images.
#: It answers with logits, and a dictionary of the features by their names in kdjax:
#: `stem` and `pooled` a tensor each, `pre` and `post` a list.
NETWORKS = {
    **wide_resnet.NETWORKS,
    **resnet.NETWORKS,
    **pyramidnet.NETWORKS,
    **vgg.NETWORKS,
    **mobilenet.NETWORKS,
    **mobilenet_v2.NETWORKS,
    **shufflenet.NETWORKS,
    **shufflenet_v2.NETWORKS,
    **vision_transformer.NETWORKS,
    **convnext.NETWORKS,
}

#: Channels of a feature that are stored, and images of the batch.
CHANNELS, IMAGES = 4, 1


def part(feature: torch.Tensor) -> np.ndarray:
    """Returns some channels of the first images in float32, over their whole extent."""
    step = max(1, feature.shape[1] // CHANNELS)
    return feature[:IMAGES, ::step].detach().numpy().astype(np.float32)


def answers(network: torch.nn.Module, size: int) -> dict[str, np.ndarray]:
    """Runs a network on drawn weights, with running statistics and with the batch's.

    Those without running statistics answer alike, and run once.
    """
    network = network.double()
    shapes = {name: tuple(leaf.shape) for name, leaf in network.state_dict().items()}
    image = torch.from_numpy(drawing.images(2, size)).double()
    found = {"shapes": np.asarray(json.dumps(shapes)), "size": np.asarray(size)}
    statistics = any(name.endswith("running_mean") for name in shapes)
    for mode in ("eval", "train") if statistics else ("eval",):
        network.load_state_dict(
            {
                name: torch.from_numpy(x)
                for name, x in drawing.state_dict(shapes).items()
            }
        )
        logits, features = network.train(mode == "train")(image)
        found[f"{mode}/logits"] = logits.detach().numpy().astype(np.float32)
        for name, feature in features.items():
            stages = (
                {"": feature}
                if torch.is_tensor(feature)
                else dict((f"/{index}", stage) for index, stage in enumerate(feature))
            )
            for suffix, stage in stages.items():
                found[f"{mode}/{name}{suffix}"] = part(stage)
    return found


def main(names: list[str]) -> None:
    """Writes the networks of the names."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or NETWORKS:
        build, size = NETWORKS[name]
        np.savez_compressed(FOLDER / f"{name}.npz", **answers(build(), size))
        print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
