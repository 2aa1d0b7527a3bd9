"""Vision transformers of timm and of torchvision themselves, and their features."""

import functools

import torch


def as_maps(tokens, grid):
    """Returns the tokens of patches, the last of all, as [B, C, H, W]."""
    patches = tokens[:, -grid * grid :]
    return patches.transpose(1, 2).reshape(len(tokens), -1, grid, grid)


def features(tokens, stages, grid, pooled):
    taps = [as_maps(x, grid) for x in stages]
    stem = as_maps(tokens, grid)
    return {"stem": stem, "pre": taps, "post": taps, "pooled": pooled}


def ends(blocks, stages):
    """Returns the tokens behind the last block of each stage, and behind all."""
    count = len(blocks)
    last = [count * n // stages - 1 for n in range(1, stages + 1)]

    def run(x):
        found = []
        for index, block in enumerate(blocks):
            x = block(x)
            if index in last:
                found.append(x)
        return found, x

    return run


def timm_answers(network, grid, stages, image):
    tokens = network.norm_pre(network._pos_embed(network.patch_embed(image)))
    taps, x = ends(network.blocks, stages)(tokens)
    pooled = network.norm(x)[:, 0]
    return type(network).forward(network, image), features(tokens, taps, grid, pooled)


def torchvision_answers(network, grid, stages, image):
    x = network._process_input(image)
    token = network.class_token.expand(len(x), -1, -1)
    tokens = torch.cat([token, x], dim=1) + network.encoder.pos_embedding
    taps, x = ends(network.encoder.layers, stages)(tokens)
    pooled = network.encoder.ln(x)[:, 0]
    return type(network).forward(network, image), features(tokens, taps, grid, pooled)


def timm_network():
    """Four blocks of 64 channels for 32x32, whose positions are interpolated."""
    from timm.models.deit import VisionTransformerDistilled

    network = VisionTransformerDistilled(
        img_size=32,
        patch_size=4,
        embed_dim=64,
        depth=4,
        num_heads=1,
        num_classes=10,
        dynamic_img_size=True,
    )
    network.forward = functools.partial(timm_answers, network, 6, 3)
    return network


def torchvision_network():
    """Without a distillation token, for 64x64 images."""
    from torchvision.models import VisionTransformer

    network = VisionTransformer(64, 8, 4, 1, 64, 256, num_classes=10)
    network.forward = functools.partial(torchvision_answers, network, 8, 3)
    return network


#: See `write.NETWORKS`. Images of 24x24 have 6x6 patches, where the first has positions
#: of 8x8.
NETWORKS = {
    "vit_4_64_distilled.timm": (timm_network, 24),
    "vit_4_64@64.torchvision": (torchvision_network, 64),
}
